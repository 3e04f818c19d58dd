"""Contents of executions: blobs, artifacts, output files, standard input."""
