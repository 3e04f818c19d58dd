"""Queries of executions and events: pages, cursors and filters."""
