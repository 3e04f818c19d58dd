"""Commands on executions: run, read, save. Nothing of the server is imported here."""
