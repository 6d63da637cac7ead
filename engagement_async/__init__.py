"""Async engine for X's enterprise Engagement API."""
