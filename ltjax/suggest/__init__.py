"""Which pictures to look at next: unlabeled ones to label, labels to check."""
