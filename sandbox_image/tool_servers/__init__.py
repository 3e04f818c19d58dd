"""Images of tool servers: packages of Debian, PyPI and npm, locked by their digests; none of their scripts is run."""
