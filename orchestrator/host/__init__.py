"""This host: its OCI runtimes, and the checks of whether the host can keep Mayfly's promises."""
