"""The proof of "nothing lost": things are killed, stopped and cut off, and then everything there is is looked at."""
