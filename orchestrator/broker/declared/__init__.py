"""Declarations of operators: tool servers in files, and the secrets that the broker sends to them."""
