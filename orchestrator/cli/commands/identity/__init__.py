"""Commands of people: their log-ins, and the administration of own users."""
