"""Which reward model judges what, and what is learned from it; without a trainer."""
