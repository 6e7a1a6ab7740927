"""The one error that this package raises for what a user gave it."""


class DataError(ValueError):
    """A log, a file or a name that cannot be used: the text says what is wrong, where, and what to do."""
