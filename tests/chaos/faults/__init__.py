"""One fault each: a kill, a full disk, a jumping clock, a cut connection; then no execution is lost."""
