"""What is read from a command line and its configurations, and what is said of them; ``cli.py`` puts it together."""
