"""An engine that samples from something else than the policy: when to say so, and what to do."""

BOUND = 0.1
"""Nats per token between engine and policy from which it is warned. Another engine's rounding makes about .01 in
bfloat16."""
ADVICE = "It does not sample from the policy that is trained. Look at its data type, quantisation and adapter."
