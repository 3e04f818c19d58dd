"""Other people's MCP clients, their suite of conformance tests, and the server that has what that suite calls."""
