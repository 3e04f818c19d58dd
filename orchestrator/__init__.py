"""Mayfly's control plane: what clients talk to, and the ground floor that workers share."""

__version__ = "0.1.0"
