"""Files of MATLAB, read in a process of their own.

SciPy trusts the sizes that a file states: one flipped bit of an uncompressed
file can crash the process that reads it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mmskip.reading import reading

WORKER = Path(__file__).with_name('mat_worker.py')
# No file of the releases takes a tenth of it, on a slow disk either.
SECONDS = 60.0
EXPECTED = 'a file of MATLAB'


class MatReader:
    """Reads files of MATLAB in one process, which is replaced if it dies.

    Use it in a ``with`` statement; the process starts with the first file.
    Not to be shared by threads, nor with a forked process.

    Args:
        seconds: How long reading a file may take.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> 'MatReader':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._end(self._process)

    def matrix(self, path: str | os.PathLike, name: str) -> np.ndarray:
        """Read an array of numbers; it is not to be written to.

        Args:
            path: The file.
            name: Name of the array.

        Raises:
            InputError: The file cannot be read, or has no such array.
            OSError: There is no such file.
        """
        expected = f'{name} in {EXPECTED}'
        with reading(path, expected, 'extract it again'):
            answer, content = self._ask(path, matrix=name)
            flat = np.frombuffer(content, answer['dtype'])
            return flat.reshape(answer['shape'], order='F')

    def rows(
        self, path: str | os.PathLike, fields: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Read the elements of a struct array.

        Args:
            path: The file.
            fields: Some of the struct's fields, which tell it from others.

        Returns:
            All fields by name, each a text or a list of numbers; None where
            it is neither.

        Raises:
            InputError: The file cannot be read, or has not one such array.
            OSError: There is no such file.
        """
        expected = (
            f'{EXPECTED} with one struct array with {" and ".join(fields)}'
        )
        with reading(path, expected, 'extract it again'):
            answer, _ = self._ask(path, fields=list(fields))
            return answer['rows']

    def _ask(
        self, path: str | os.PathLike, **request: Any
    ) -> tuple[dict, bytes]:
        """Return the answer of the worker, and the bytes that follow it."""
        with open(path, 'rb'):
            pass  # so that a file that is not there is told as any other
        process = self._started()
        late = threading.Event()
        timer = threading.Timer(self.seconds, self._kill, (process, late))
        timer.start()
        try:
            line = json.dumps(dict(path=os.path.abspath(path), **request))
            process.stdin.write(line.encode() + b'\n')
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            content = process.stdout.read(answer['bytes'])
        except (OSError, ValueError) as error:
            fate = f'it crashes the reader ({self._fate(process)})'
            if late.is_set():
                fate = f'it takes more than {self.seconds:g} s'
            raise RuntimeError(fate) from error
        except BaseException:  # interrupted: an answer may be under way
            self._end(process)
            raise
        finally:
            timer.cancel()
        if 'error' in answer:
            raise RuntimeError(answer['error'])
        return answer, content

    def _started(self) -> subprocess.Popen:
        if self._process is None or self._process.poll() is not None:
            # Threads of BLAS would take address space, and do nothing here.
            threads = dict(OPENBLAS_NUM_THREADS='1', OMP_NUM_THREADS='1')
            self._process = subprocess.Popen(
                [sys.executable, '-P', str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pipesize=1 << 20,  # a video's masks in few turns
                env={**os.environ, **threads},
            )
        return self._process

    @staticmethod
    def _kill(process: subprocess.Popen, late: threading.Event) -> None:
        late.set()
        process.kill()

    def _fate(self, process: subprocess.Popen) -> str:
        """Say how a process ended that answers no more."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        self._end(process)
        code = process.returncode
        return signal.Signals(-code).name if code < 0 else f'exit code {code}'

    def _end(self, process: subprocess.Popen) -> None:
        self._process = None
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # a request that was never read
                pipe.close()


@contextmanager
def mat_reader(given: MatReader | None) -> Iterator[MatReader]:
    """Yield a reader that was given, or a new one for the block."""
    if given is not None:
        yield given
        return
    with MatReader() as reader:
        yield reader
