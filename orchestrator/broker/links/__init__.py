"""Connections to tool servers: ways to reach them, bounds on what they answer, and their results as plain data."""
