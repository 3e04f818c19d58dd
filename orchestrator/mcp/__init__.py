"""The MCP server: what a model can call, and what a model gets."""
