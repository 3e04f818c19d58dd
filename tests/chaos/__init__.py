"""Chaos tests: processes are killed, stopped and cut off, and then all records, hosts and answers are checked."""
