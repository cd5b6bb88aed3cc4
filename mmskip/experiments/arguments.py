"""Arguments that the commands of ``tools/analysis`` have in common."""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from torch import Tensor, nn

from mmskip.apis import UserError, init_model, load_config
from mmskip.apis.errors import one_line
from mmskip.apis.models import check_checkpoint
from mmskip.reading import reading

from .tool_runs import ToolRuns


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
    """Read an integer of at least 1, for argparse."""
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
    """Make the runner of tools that the command line asks for.

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


def add_recognizer_arguments(
    parser: argparse.ArgumentParser, out: str
) -> None:
    """Add a model, how much of its test set is run, and where results go.

    Args:
        parser: Parser of the command.
        out: Default of ``--out``, a folder.
    """
    parser.add_argument('config', help='config of a recogniser')
    parser.add_argument(
        'checkpoint', nargs='?', help='default: random weights'
    )
    parser.add_argument(
        '--videos', type=positive, help='of the test set; default: all'
    )
    parser.add_argument('--device', default='cpu', help="e.g. 'cuda:0'")
    parser.add_argument(
        '--out', type=Path, default=Path(out), help='folder to write to'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config, xxx=yyy',
    )


def open_recognizer(args: argparse.Namespace) -> nn.Module:
    """Build the model of the command line, in eval mode.

    Raises:
        UserError: The config is of another host, or see :func:`init_model`.
    """
    config = load_config(args.config, args.cfg_options)
    if config.get('default_scope') != 'mmaction':
        raise UserError(
            f'{args.config}: expected the config of a recogniser '
            "(default_scope='mmaction'), got one of "
            f'{config.get("default_scope")!r}'
        )
    return init_model(config, args.checkpoint, args.device)


def load_test_set(
    model: nn.Module, videos: int | None = None
) -> Iterator[dict]:
    """Yield batches of a config's test set, as its loader gives them.

    Args:
        model: With ``cfg``.
        videos: Not more than these many; None for all.

    Raises:
        UserError: There is no test set, or it cannot be read.
    """
    config: Config = model.cfg
    if 'test_dataloader' not in config:
        raise UserError('expected test_dataloader in the config, got none')
    try:
        loader = Runner.build_dataloader(config.test_dataloader)
    except OSError as error:
        raise UserError(
            f'cannot read the test set: {one_line(error)}'
        ) from error
    left = len(loader.dataset) if videos is None else videos
    for batch in loader:
        if left <= 0:
            return
        yield {key: values[:left] for key, values in batch.items()}
        left -= len(batch['inputs'])


def predict(model: nn.Module, batch: dict) -> list[Any]:
    """Return the data samples of a batch, with the model's predictions."""
    with torch.no_grad():
        return model.test_step(batch)


def clip_frames(inputs: Tensor, view: int) -> np.ndarray:
    """Return the frames of a clip as pictures.

    Args:
        inputs: A video as the pipeline gives it, uint8 in red, green,
            blue: (views, 3, T, H, W), or (T, 3, H, W) for models that see
            each frame on its own.
        view: Which clip.

    Returns:
        uint8, (T, H, W, 3) in blue, green, red.
    """
    frames = inputs[view].transpose(0, 1) if inputs.dim() == 5 else inputs
    return frames.permute(0, 2, 3, 1).flip(3).byte().cpu().numpy()


def make_out(args: argparse.Namespace) -> Path:
    """Make ``args.out``.

    Raises:
        UserError: It cannot be made.
    """
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'cannot write --out: {one_line(error)}') from error
    return args.out


def class_names(model: nn.Module, labels: Sequence[int]) -> dict[int, str]:
    """Return the names of classes, or numbers where there are no names."""
    names = (model.dataset_meta or {}).get('classes') or ()
    if isinstance(names, str):  # a file, which datasets read
        path = Path(names)
        with reading(path, 'a list of class names'):
            names = path.read_text().splitlines() if path.is_file() else ()
    return {
        label: names[label] if label < len(names) else str(label)
        for label in labels
    }
