"""A small ledger in double entry."""

from .book import Ledger

__all__ = ["Ledger"]
__version__ = "1.4"
