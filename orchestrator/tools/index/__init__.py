"""Search for tools: ranking, and what of the found tools fits into a number of tokens. Pure."""
