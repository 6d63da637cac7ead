"""The tests: properties, virtual time, real sockets, real processes."""
