"""One HTML page on what folders hold."""
