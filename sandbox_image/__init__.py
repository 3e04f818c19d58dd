"""The sandbox images: the agent that is PID 1 in each, what they are built from, and how."""
