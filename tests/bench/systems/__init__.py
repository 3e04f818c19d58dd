"""The measured systems: Mayfly, raw loops and peers, each with the same programs and images."""
