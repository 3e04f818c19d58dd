"""What a sandbox costs without a control plane: loops that are as fast as we can make them, with equal limits."""
