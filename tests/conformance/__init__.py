"""Other people's tests, run inside sandboxes, and what of them is known to fail there."""
