"""Routes of administrators: tenants and the audit log."""
