"""What Mayfly costs, measured against what its containers cost, in one run."""
