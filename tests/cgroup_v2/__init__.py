"""A virtual machine for tests that depend on the host's cgroup version."""
