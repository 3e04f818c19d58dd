"""Warm containers: how many, and how they are made."""
