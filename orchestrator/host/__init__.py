"""This host: its OCI runtimes, and whether it can keep the promises."""
