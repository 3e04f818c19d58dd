"""What is kept of each execution: its record, who may end it, its sealed specification."""
