"""Warm containers: their number, and the launcher that makes them."""
