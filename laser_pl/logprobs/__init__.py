"""Reading responses: their log-probabilities under a language model, prompts shared where it allows that."""
