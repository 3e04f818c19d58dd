"""The Redis that `mayfly up` runs."""
