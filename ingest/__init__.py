"""From sources to the log and from the log to the history."""
