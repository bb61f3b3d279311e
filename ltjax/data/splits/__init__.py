"""Splits: which images are labeled, unlabeled, validation, test."""
