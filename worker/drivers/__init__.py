"""Drivers for containers: ``base`` is the protocol, each other package one implementation."""
