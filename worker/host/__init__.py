"""Interfaces to this host's kernel: cgroups, audit records, locks, exit codes, kills, uids and disks."""
