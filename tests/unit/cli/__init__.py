"""The command line, as functions and as real processes."""
