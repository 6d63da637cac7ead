"""The acceptance matrix: every fault over real sockets, counted. `python -m tests.matrix` writes docs/reliability.md."""
