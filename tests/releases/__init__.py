"""Data that released versions left behind, and how it is recorded and compared."""
