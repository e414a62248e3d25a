"""What is saved and loaded: theta with its metadata."""
