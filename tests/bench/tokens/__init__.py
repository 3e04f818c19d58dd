"""``make bench-tokens``: what tools cost a model in tokens, with and without programs. Offline and repeatable."""
