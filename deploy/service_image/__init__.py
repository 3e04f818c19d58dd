"""The images that API, worker and Redis run from in a compose deployment, and how they are built."""
