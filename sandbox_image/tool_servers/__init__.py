"""Images of tool servers: packages of Debian, PyPI and npm, locked by their digests. No script of theirs is run."""
