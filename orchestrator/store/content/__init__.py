"""The bytes that executions are given and leave: blobs, standard input."""
