"""The driver for OCI runtimes."""
