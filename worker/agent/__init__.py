"""The conversation with the agent in a sandbox: pure."""
