"""How a worker reaches containers: ``base`` is the protocol, each other module one way."""
