"""Answers about executions and events: pages, places in them, and the questions that name them."""
