"""State of the whole platform: workers, rates, capacity, facts about Redis."""
