"""Executions in the store: records, claims and sealed specifications."""
