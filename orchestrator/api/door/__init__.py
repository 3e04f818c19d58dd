"""The bounds at the front door: on connections, incoming bodies and outgoing answers."""
