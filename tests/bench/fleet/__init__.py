"""The control plane alone: real APIs, workers and Redis over containers that cost nothing."""
