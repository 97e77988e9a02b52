"""The selection inside other people's trainers."""
