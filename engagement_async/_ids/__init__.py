"""Tweet IDs out of files."""
