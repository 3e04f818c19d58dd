"""What is left over: put back, expired, reported, cleaned up."""
