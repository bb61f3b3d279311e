"""Features as points: who lies next to whom."""
