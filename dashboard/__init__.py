"""The web page: what an engineer on call wants at a glance, from the history's answers."""
