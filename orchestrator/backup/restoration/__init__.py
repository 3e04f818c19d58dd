"""Restores backups: into a temporary Redis to verify them, or into an empty installation."""
