"""Commands for people: log-ins, and the administration of own users."""
