"""Regularizers on unlabeled images, and the stage they share."""
