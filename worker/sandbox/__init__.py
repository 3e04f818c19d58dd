"""What a sandbox is to be: pure."""
