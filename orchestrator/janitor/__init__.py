"""The janitor: requeues lost executions, deletes expired data, reports bursts, cleans up."""
