"""Installations whose parts are killed: workers, containers, proxies and replicas."""
