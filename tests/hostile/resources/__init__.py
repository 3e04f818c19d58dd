"""Programs that take all of a resource, or will not end."""
