"""A web page and its small API."""
