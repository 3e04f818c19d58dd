"""The images of API, worker and Redis in a compose deployment, and their builder."""
