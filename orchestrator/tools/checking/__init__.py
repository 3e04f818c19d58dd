"""Checks of values against untrusted schemas, in bounded time."""
