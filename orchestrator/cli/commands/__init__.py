"""The commands of ``mayfly``: each module is imported when its command is called."""
