"""Other systems, each run by its own interface in a virtual environment of its own."""
