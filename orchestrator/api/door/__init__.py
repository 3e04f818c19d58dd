"""The bounds at the front door: what a connection, a body on its way in and an answer on its way out may take."""
