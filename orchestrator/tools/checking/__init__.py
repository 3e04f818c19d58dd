"""Checks of values against the schemas of strangers, in bounded time."""
