"""Mayfly's control plane: API, SDK and command line, and the lower layers shared with workers."""

__version__ = "0.2.0.dev0"
