"""A virtual machine for what depends on the host's kind of cgroups."""
