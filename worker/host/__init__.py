"""What this host's kernel counts, denies and keeps."""
