"""Which implementation of the operators runs."""

import os

BACKENDS = ('reference',)


def active_backend() -> str:
    """Name of the backend that computes Skip-Convolutions.

    ``reference`` masks a dense convolution with torch: exact, portable, and
    no faster than the dense model. The environment variable
    ``MMSKIP_BACKEND`` asks for one by name.

    Raises:
        ValueError: The variable names a backend that is not here.
    """
    wanted = os.environ.get('MMSKIP_BACKEND', BACKENDS[0])
    if wanted not in BACKENDS:
        raise ValueError(
            f'MMSKIP_BACKEND={wanted!r}: expected one of '
            f'{", ".join(BACKENDS)}; unset it to use {BACKENDS[0]!r}'
        )
    return wanted
