"""Routes of administrators: tenants, service accounts, API keys and the audit log."""
