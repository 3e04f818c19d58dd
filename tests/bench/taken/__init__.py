"""The resources that one tenant can take from the host and from a neighbour."""
