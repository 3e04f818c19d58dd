"""Programs that attack the kernel and its namespaces, or search for a way to others."""
