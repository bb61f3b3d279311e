"""Named sets: where they come from, and how they get here."""
