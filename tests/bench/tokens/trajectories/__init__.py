"""Part 2: whole trajectories, once with a call of a tool in each turn, and once as programs."""
