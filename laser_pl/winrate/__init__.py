"""Win rates of a run's responses, by a judge."""
