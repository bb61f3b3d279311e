"""Several runs on one machine."""
