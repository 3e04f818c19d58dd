"""A worker's duties beside its attempts: lease, admission, host checks, removal of orphans."""
