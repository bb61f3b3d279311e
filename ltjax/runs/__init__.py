"""A run on disk: its folder, its log, what is finished of it."""
