"""The event loop's side: it executes what `_core` decides, and takes no decision of its own."""
