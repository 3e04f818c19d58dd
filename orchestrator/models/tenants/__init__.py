"""Data about tenants: their usage and quotas."""
