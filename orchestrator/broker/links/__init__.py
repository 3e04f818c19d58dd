"""Connections to tool servers: transports, bounds on answers, and results as plain data."""
