"""Around a run: processes, seeds, progress, interruptions."""
