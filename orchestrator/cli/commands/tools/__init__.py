"""``mayfly tools``: tool servers and their tools."""
