"""Durable jobs: sources and tables."""
