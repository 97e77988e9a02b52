"""The one error that is the user's to mend."""


class ConfigurationError(ValueError):
    """A mistake in the configuration, the data or the environment, told in one sentence.

    The sentence names the file, row or setting, the value found, and what to do. ``laser_pl.cli.main`` prints it
    without a traceback and ends with exit code 2.
    """
