"""Hostile programs as data: the attempt, the required end, and the required state of the host afterwards."""
