"""The tools of one attempt: its program's calls, and the files that describe what it may call."""
