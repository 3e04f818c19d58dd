"""Commands for language models: ``mayfly mcp``, a relay between a client's pipes and the API, and clients' files."""
