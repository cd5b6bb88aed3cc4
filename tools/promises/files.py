"""Faults of readers: each function makes its own files and tells if it holds.

Run from the root of a checkout. Every function returns ``(held, detail)``.
"""

import contextlib
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.io import savemat

# Seconds and bytes of address space that one attempt may take.
SECONDS = 120
MEMORY = 256 << 20


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def attempt(code: str, *arguments: object) -> tuple[int, str]:
    """Run code in a process of its own, ``argv[1:]`` being the arguments.

    Returns:
        Its exit code, negative if a signal ended it, and its last line.
    """
    command = [sys.executable, '-c', textwrap.dedent(code)]
    try:
        done = subprocess.run(
            [*command, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, f'no end after {SECONDS} s'
    lines = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, lines[-1] if lines else ''


def refused(
    read: Callable, path: Path, *arguments: object
) -> tuple[bool, str]:
    """Whether a file is refused by its name, or read with such a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        try:
            read(*arguments)
        except (ValueError, OSError) as error:
            return str(path) in str(error), f'{type(error).__name__}: {error}'
        except Exception as error:
            return False, f'{type(error).__name__} of another library: {error}'
    told = [str(w.message) for w in caught if str(path) in str(w.message)]
    return bool(told), told[0] if told else 'read without a word'


def damaged_mat() -> tuple[bool, str]:
    """One flipped bit of an uncompressed .mat ends no process."""
    code = """
        import sys
        from mmskip.datasets.action_lists import read_thumos14
        try:
            read_thumos14(sys.argv[1])
        except ValueError as error:
            print('refused', error)
    """
    with folder() as root:
        path = root / 'validation_set.mat'
        kinds = ('video_name', 'background_video', 'primary_action_index')
        videos = [(f'v{n}', 'NO', float(n)) for n in range(1, 9)]
        array = np.array([videos], [(kind, object) for kind in kinds])
        savemat(path, dict(validation_videos=array))
        whole = path.read_bytes()
        # The type of the first field's array, which SciPy trusts.
        place = whole.index(b'\x0e\0\0\0', whole.index(b'primary')) + 16
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        )
        status, line = attempt(code, path)
        held = status == 0 and (line == '' or str(path) in line)
        return held, f'exit code {status}: {line}'


def links_in_circles() -> tuple[bool, str]:
    """Two links to a folder above do not fill the memory."""
    code = f"""
        import resource, sys
        from mmskip.datasets.action_lists import index_media
        used = int(open('/proc/self/statm').read().split()[0])
        limit = used * resource.getpagesize() + {MEMORY}
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        print('found', len(index_media(sys.argv[1], rawframes=True)))
    """
    with folder() as root:
        frames = root / 'a/b'
        frames.mkdir(parents=True)
        (frames / 'img_00001.jpg').touch()
        for name in ('up', 'round'):
            (frames / name).symlink_to(root)
        status, line = attempt(code, root)
        return status == 0, f'exit code {status}: {line}'


def line_without_label() -> tuple[bool, str]:
    """In a list of single labels, a line without one is not the class -1."""
    from mmskip.datasets import ActionVideoDataset

    with folder() as root:
        path = root / 'list.txt'
        path.write_text('a.mp4 0\nb.mp4\n')
        return refused(
            lambda: ActionVideoDataset(ann_file=str(path), pipeline=[]), path
        )


def empty_split() -> tuple[bool, str]:
    """An empty split file of HMDB51 is no class without videos."""
    from mmskip.datasets.action_lists import read_class_splits

    with folder() as root:
        (root / 'run_test_split1.txt').write_text('a.avi 1\n')
        path = root / 'wave_test_split1.txt'
        path.touch()
        return refused(read_class_splits, path, root, 1)


def video_in_both_subsets() -> tuple[bool, str]:
    """A video is not both trained and tested on."""
    from mmskip.datasets.action_lists import read_class_splits

    with folder() as root:
        path = root / 'run_test_split1.txt'
        path.write_text('a.avi 1\nb.avi 2\na.avi 2\n')
        return refused(read_class_splits, path, root, 1)


def open_quote() -> tuple[bool, str]:
    """A quote left open swallows no rows of a CSV file."""
    from mmskip.datasets.action_lists import read_kinetics_csv

    with folder() as root:
        path = root / 'kinetics.csv'
        path.write_text(
            'label,youtube_id,time_start,time_end\nrun,a,1,2\n"wave,b,1,2\n'
            'run,c,1,2\n"wave",d,1,2\nrun,e,1,2\n'
        )
        return refused(read_kinetics_csv, path, path)


def foreign_exceptions() -> tuple[bool, str]:
    """Whatever is wrong with a file, the error names it."""
    from mmskip.datasets.action_lists import (
        read_activitynet,
        read_kinetics_csv,
        read_video_list,
    )
    from mmskip.datasets.ua_detrac_release import read_sequence

    cases = (
        (read_sequence, b'<?xml version="1.0" encoding="utf-99"?><sequence/>'),
        (read_activitynet, b'[' * 100_000),
        (read_activitynet, b'{"database": {"a": null}}'),
        (read_kinetics_csv, b'label,youtube_id,time_start,time_end\na,b\n'),
        (read_kinetics_csv, 'label,youtube_id\n'.encode('utf-16')),
        (read_video_list, b'a \xff 1\n'),
        (read_video_list, b'a 1 ' + b'1' * 5000),
    )
    wrong = []
    with folder() as root:
        for number, (read, content) in enumerate(cases):
            path = root / f'case{number}'
            path.write_bytes(content)
            held, detail = refused(read, path, path)
            if not held:
                wrong.append(f'{read.__name__}: {detail[:80]}')
    return not wrong, '; '.join(wrong) or f'{len(cases)} cases named'


CHECKS = (
    damaged_mat,
    links_in_circles,
    line_without_label,
    empty_split,
    video_in_both_subsets,
    open_quote,
    foreign_exceptions,
)
