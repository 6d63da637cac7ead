"""Progress as people see it: on a terminal, in a notebook, in a log. Nothing here is imported before it is needed."""
