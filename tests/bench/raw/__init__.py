"""The cost of a sandbox without a control plane: the fastest possible loops, with equal limits."""
