"""Fuzzing of every parser of untrusted bytes; CONTRIBUTING.md explains how to run it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
