"""The command line of the tools that write toy data."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mmskip.apis.errors import EXIT_OK, UserError

# Help and, for two numbers, what they are.
OPTIONS = dict(
    train_videos=('training videos', None),
    test_videos=('test videos', None),
    unused_videos=('videos that splits leave out', None),
    frames=('frames of each video', ('FEWEST', 'MOST')),
    fps=('frames per second', None),
    size=('size of the images in pixels', ('WIDTH', 'HEIGHT')),
    train_sequences=('training sequences', None),
    test_sequences=('test sequences', None),
    train_frames=('frames of each training sequence', None),
    density=('vehicles per lane and second that want to enter', None),
    seed=('random seed', None),
)


def write_toy_data(
    name: str,
    make: Callable[..., Path],
    text: str,
    defaults: Mapping[str, Any],
    total: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
    unit: str = 'video',
) -> int:
    """Write a toy data set and show progress.

    Args:
        name: What it is called.
        make: Writes it: ``make(root, seed=, on_video=, ...)``, with the
            defaults' names.
        text: Of the tool; its first line says what it does.
        defaults: Of the options, which are keys of ``OPTIONS``.
        total: How many units the arguments make.
        argv: Arguments without the program's name.
        unit: What progress is counted in.

    Returns:
        The exit code.

    Raises:
        UserError: An argument is out of range, or something else is there.
    """
    args = _parse_args(text, dict(defaults, seed=0), argv)
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in vars(args).items()
    }
    progress = Progress(
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f'{unit}s'),
        TimeRemainingColumn(),
    )
    with progress:
        task = progress.add_task(name, total=total(args))
        values[f'on_{unit}'] = lambda: progress.advance(task)
        try:
            root = make(values.pop('out_dir'), **values)
        except (ValueError, OSError) as error:
            raise UserError(str(error)) from error
        progress.update(task, completed=total(args))
    print(f'{name} is in {root}')
    return EXIT_OK


def _parse_args(
    text: str, defaults: Mapping[str, Any], argv: Sequence[str] | None
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=text.split('\n', 1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out_dir', help='folder to write to')
    for key, default in defaults.items():
        is_pair = isinstance(default, tuple)
        help_text, pair = OPTIONS[key]
        parser.add_argument(
            f'--{key.replace("_", "-")}',
            type=type(default[0] if is_pair else default),
            default=default,
            help=help_text,
            **(dict(nargs=2, metavar=pair) if is_pair else {}),
        )
    return parser.parse_args(argv)
