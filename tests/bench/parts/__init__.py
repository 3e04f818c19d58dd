"""The cost of each part of the wall and of the agent: containers from which one part is left out, by turns."""
