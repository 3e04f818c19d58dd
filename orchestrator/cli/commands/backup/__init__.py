"""``mayfly backup``: backups and their restore."""
