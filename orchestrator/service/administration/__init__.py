"""The use cases of administrators: tenants, service accounts, API keys, quotas, usage."""
