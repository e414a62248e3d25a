"""Command lines: absl mains, and the flags that they share."""
