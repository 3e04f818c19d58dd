"""Hostile programs as data: what each attempts, how it must end, and what the host must look like afterwards."""
