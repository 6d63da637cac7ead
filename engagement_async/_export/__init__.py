"""Tables out of answers: formats, files, and the order of rows."""
