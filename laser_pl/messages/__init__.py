"""What is said to people: in a terminal, of a mistake, with what secret left out."""
