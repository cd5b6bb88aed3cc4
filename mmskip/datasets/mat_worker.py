"""A process that reads files of MATLAB, run by :mod:`.mat_files`.

A damaged file makes SciPy's reader crash, or ask for all memory; here that
ends no more than this process. Run as a script, it imports nothing of
mmskip. A request is a line of JSON, ``{"path", "matrix": name}`` or
``{"path", "fields": [names]}``; the answer is a line of JSON, followed by as
many bytes as its ``bytes`` says: the array in the order of Fortran.
"""

import contextlib
import json
import os
import signal
import sys
from typing import Any

# Address space of the process: masks of J-HMDB need a few MiB.
MEMORY = 4 << 30


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory()
    answers = os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            answer, content = _answer(**request)
        except Exception as error:
            answer = dict(error=f'{type(error).__name__}: {error}')
            content = b''
        answers.write(json.dumps({**answer, 'bytes': len(content)}).encode())
        answers.write(b'\n' + content)
        answers.flush()


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on every system

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _answer(
    path: str, matrix: str | None = None, fields: list[str] | None = None
) -> tuple[dict, bytes]:
    import numpy as np  # slow, and what goes wrong in it is an answer, too
    from scipy.io import loadmat

    if matrix is None:
        content = loadmat(path, squeeze_me=True)
        return dict(rows=_rows(content, fields)), b''
    content = loadmat(path, variable_names=[matrix])
    if matrix not in content:
        raise KeyError(f'there is no {matrix} in it')
    array = np.asarray(content[matrix])
    if array.dtype.kind not in 'biuf':
        raise TypeError(f'{matrix} is not of numbers but {array.dtype}')
    return dict(dtype=array.dtype.str, shape=array.shape), array.tobytes('F')


def _rows(content: dict, fields: list[str]) -> list[dict]:
    """Return the struct array that has all of the fields, as plain values."""
    import numpy as np

    arrays = [
        np.atleast_1d(value)
        for value in content.values()
        if isinstance(value, np.ndarray)
        and set(fields) <= set(value.dtype.names or ())
    ]
    if len(arrays) != 1:
        raise ValueError(
            f'{len(arrays)} struct arrays with {" and ".join(fields)} in it, '
            'not one'
        )
    return [
        {name: _plain(row[name]) for name in arrays[0].dtype.names}
        for row in arrays[0].ravel()
    ]


def _plain(value: Any) -> Any:
    """Return a text, or a list of numbers; None for anything else."""
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind == 'U' and array.ndim == 0:
        return str(array)
    plain = array.dtype.kind in 'biuf' or not array.size
    return array.ravel().tolist() if plain else None


if __name__ == '__main__':
    main()
