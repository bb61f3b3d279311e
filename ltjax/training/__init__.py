"""Training one stage: the step that all of them share."""
