"""Other projects' test suites, run inside sandboxes, and their known failures."""
