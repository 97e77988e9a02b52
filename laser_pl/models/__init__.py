"""Models as they are loaded: weights, adapters, what kind of model it is."""
