"""The endpoint of the protocol, in both of its eras."""
