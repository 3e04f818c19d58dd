"""``mayfly host``: further worker hosts."""
