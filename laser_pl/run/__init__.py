"""What a run writes and reads back: its folder, records, checkpoints and metrics."""
