"""The janitor: requeues lost executions, expires, reports bursts, cleans up."""
