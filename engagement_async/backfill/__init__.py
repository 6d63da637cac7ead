"""Durable jobs of millions of IDs: where the IDs come from, and where the tables go."""
