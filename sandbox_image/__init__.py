"""The sandbox images: the agent that is PID 1 in each, the environments, and the builder."""
