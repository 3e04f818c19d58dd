"""Interfaces to this host's kernel: cgroups, audit records, locks, exit codes, killing, uids and disks."""
