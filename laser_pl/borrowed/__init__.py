"""What is borrowed from the inside of other packages, a file for each; ``tests/borrowed`` says which name has moved."""
