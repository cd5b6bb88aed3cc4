"""What the commands of ``tools/analysis`` have in common."""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

from mmengine.config import DictAction

from mmskip.apis.config import check_checkpoint
from mmskip.apis.errors import UserError, one_line
from mmskip.apis.experiments.tool_runs import ToolRuns


class Checkpoint(NamedTuple):
    """Weights, and what rows and pictures call them."""

    label: str
    path: str


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where results go, and the options of a config."""
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        help='folder of the CSV, PNG and JSON files; what is there already '
        'from the same recipe is not computed again',
    )
    parser.add_argument(
        '--again', action='store_true', help='test even what was tested'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='override settings of the config: xxx=yyy',
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where results go and how many runs there are at a time."""
    add_output_arguments(parser)
    parser.add_argument(
        '--jobs',
        type=positive,
        default=1,
        help='tests and trainings that run at the same time',
    )
    parser.add_argument(
        '--threads',
        type=positive,
        help='CPU threads of each (default: all cores, divided by --jobs)',
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a config and its checkpoints."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoints',
        nargs='+',
        metavar='[LABEL=]CHECKPOINT',
        help='weights, such as one per beta: b0.1=a.pth b1=b.pth',
    )


def positive(text: str) -> int:
    """An integer of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'expected 1, 2, ..., got {text}')
    return value


def read_checkpoints(arguments: list[str]) -> list[Checkpoint]:
    """Tell labels from files.

    Raises:
        UserError: A file is missing, or two have one label.
    """
    found = []
    for argument in arguments:
        label, equals, path = argument.partition('=')
        if not equals or os.path.exists(argument):
            path = argument
            label = Path(argument).stem
        found.append(Checkpoint(label, check_checkpoint(path)))
    labels = [checkpoint.label for checkpoint in found]
    if len(set(labels)) < len(labels):
        raise UserError(
            f'expected another label for each checkpoint, got '
            f'{", ".join(labels)}; write LABEL=CHECKPOINT'
        )
    return found


def make_tool_runs(
    args: argparse.Namespace, tools: Path, may_train: bool = True
) -> ToolRuns:
    """What runs the tools, as the command line says.

    Args:
        args: With ``out``, ``jobs``, ``threads`` and ``again``.
        tools: Folder of ``train.py`` and ``test.py``.
        may_train: Whether checkpoints that are missing are trained.
    """
    make_folder(args)
    threads = args.threads
    if threads is None and args.jobs > 1:
        threads = max(1, len(os.sched_getaffinity(0)) // args.jobs)
    return ToolRuns(tools, threads, args.again, may_train)


def make_folder(args: argparse.Namespace) -> None:
    """Make ``args.out``, and let it be absolute.

    Raises:
        UserError: The folder cannot be made.
    """
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'cannot write --out: {one_line(error)}') from error
    args.out = args.out.resolve()
