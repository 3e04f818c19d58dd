"""The routes, thin: from HTTP to a use case and back."""
