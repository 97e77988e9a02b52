"""Train a language model from several reward models; a contextual bandit learns which one to trust where."""

import logging

__version__ = "0.1.0"

# At import it reports that an optional kernel package is missing.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
