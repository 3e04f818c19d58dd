"""One attempt: its program, what comes of it, and what follows."""
