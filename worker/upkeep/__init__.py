"""What a worker does beside its attempts."""
