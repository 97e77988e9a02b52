"""What a run would take, found before anything is loaded."""
