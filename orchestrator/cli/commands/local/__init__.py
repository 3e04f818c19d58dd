"""Commands for this machine: start and stop all of Mayfly, check the host."""
