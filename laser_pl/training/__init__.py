"""What a training step is made of, beside the objective in ``losses.py``; ``policy.py`` puts it together."""
