"""Calls of the API that administrators make."""
