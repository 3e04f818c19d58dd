"""This host: its OCI runtimes, and the checks whether it can keep the promises."""
