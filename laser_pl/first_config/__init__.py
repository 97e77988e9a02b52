"""A first configuration, guessed from a model, a data file and reward models."""
