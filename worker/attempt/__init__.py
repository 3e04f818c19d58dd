"""One attempt: its program, its output and files, its result, and its retry or end."""
