"""The driver for Docker Engine."""
