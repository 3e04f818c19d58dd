"""Tool servers as a broker serves them: their catalogues, and what happens when they fail."""
