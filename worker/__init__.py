"""The worker: takes executions from the queue and runs each in a separate container."""
