"""Run a recogniser over its test set, for the commands of tools/analysis."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from torch import Tensor, nn

from mmskip.apis.config import load_config
from mmskip.apis.errors import UserError, one_line
from mmskip.apis.experiments.arguments import positive
from mmskip.apis.loading import init_model
from mmskip.runtime.reading import reading


def add_recognizer_arguments(
    parser: argparse.ArgumentParser, out: str
) -> None:
    """Add a model, how much of its test set is run, and where results go.

    Args:
        parser: Of the command.
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
    """Batches of the test set of a model's config, as its loader gives them.

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
    """Data samples of a batch, with the model's predictions."""
    with torch.no_grad():
        return model.test_step(batch)


def clip_frames(inputs: Tensor, view: int) -> np.ndarray:
    """Frames of a clip as pictures.

    Args:
        inputs: Of one video as the pipeline gives them, uint8 in red, green,
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
    """Names of classes, their numbers where the model has no names."""
    names = (model.dataset_meta or {}).get('classes') or ()
    if isinstance(names, str):  # a file, which datasets read
        path = Path(names)
        with reading(path, 'a list of class names'):
            names = path.read_text().splitlines() if path.is_file() else ()
    return {
        label: names[label] if label < len(names) else str(label)
        for label in labels
    }
