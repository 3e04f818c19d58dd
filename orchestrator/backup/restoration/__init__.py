"""Reading backups: into a fresh Redis to verify them, or into an empty installation."""
