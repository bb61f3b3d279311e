"""Several seeds: in turn, as one program, or a process each."""
