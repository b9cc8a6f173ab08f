"""One file per source of observations."""
