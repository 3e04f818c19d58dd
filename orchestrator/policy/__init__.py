"""What may be asked for: pure checks of submissions, before anything is stored."""
