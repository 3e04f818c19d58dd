"""Creates backups: the snapshot of Redis, the lease, the order of steps, retention and a schedule."""
