"""Measures Mayfly's cost against the cost of its containers, in one run."""
