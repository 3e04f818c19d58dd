"""Checks of submissions before they are stored: bounds, and the static policy."""
