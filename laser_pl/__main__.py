"""``python -m laser_pl``."""

from laser_pl.cli import main

if __name__ == "__main__":
    main()
