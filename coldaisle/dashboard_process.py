"""`coldaisle dashboard`: serves the page from the history's answers."""
