"""Train a language model from several reward models; a contextual bandit learns which one to trust where."""

__version__ = "0.1.0"
