"""Fuzzing of everything that reads what Mayfly does not trust; CONTRIBUTING.md says how to run it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
