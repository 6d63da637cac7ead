"""End-to-end tests against an Engagement API of another hand: written from its documentation, sharing no code."""
