"""From a trained batch to the bandit's reward: context preparation, signals and reward normalizers."""
