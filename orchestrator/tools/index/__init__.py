"""Search for tools: ranking, and answers within a number of tokens. Pure."""
