"""How right the responses are."""
