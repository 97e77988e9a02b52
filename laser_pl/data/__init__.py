"""Prompts, rollouts on disk, pairs, and the Lightning data module that feeds them to training."""
