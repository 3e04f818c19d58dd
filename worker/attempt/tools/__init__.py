"""The tools of one attempt: its program's calls, and the files that describe its tools."""
