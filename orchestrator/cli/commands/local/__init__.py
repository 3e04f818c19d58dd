"""Commands for this machine: start all of Mayfly on it, end that, check the host."""
