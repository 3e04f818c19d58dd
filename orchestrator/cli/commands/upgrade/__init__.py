"""``mayfly upgrade``: from one version to another, and back."""
