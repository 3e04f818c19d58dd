"""Outputs and artifacts of executions, piece by piece."""
