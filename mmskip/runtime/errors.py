"""What a user gave does not fit together."""


class InputError(ValueError):
    """Data, settings or weights cannot be used; the text says what to do.

    The command line tools print it in one line, without a traceback.
    """
