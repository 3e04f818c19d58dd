"""Knowledge of tools: grants, names, signatures, search. Pure: no I/O, no clock.

``grants`` decides which tools an execution may call; ``arguments`` checks a call against the tool's input schema.
Descriptions, names and schemas come from tool servers, which may be hostile: every function here is bounded, and its
result is safe to show and to write into a file.
"""
