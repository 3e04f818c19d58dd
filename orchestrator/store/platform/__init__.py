"""What is kept and known of the whole platform: workers, rates, room, the state of Redis."""
