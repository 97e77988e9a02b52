"""The commands: fit and what belongs to it, and those that look at runs."""
