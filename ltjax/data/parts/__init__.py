"""The parts of a set: their arrays, their groups, and parts held out."""
