"""Make a checkpoint of mmdet from an ONNX export of YOLOX or RTMDet.

Example::

    mmskip convert-model onnx-detectors yolox_nano.onnx CONFIG nano.pth

For models of which only an export can be had: the releases of YOLOX, and
what mmdeploy writes, with batch norms folded or not. Convolutions are matched
by their shapes and by how they connect, never by their names. A folded batch
norm becomes one that changes nothing but adds the bias. Then both models run
on two pictures, the export by onnx's own reference evaluator, and the
checkpoint is written only if their outputs agree. The pictures have been
through the model's preprocessor: an export has to begin behind it, as those
above do. `pip install 'numpy<2' 'mmskip[onnx]'` installs what this needs; by
itself onnx brings a numpy that mmaction2 cannot use.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from from_onnx import (
    Export,
    build_model,
    check_filled,
    check_parity,
    check_size,
    fill,
    match,
    trace,
)
from torch import nn

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK, run_tool

TOLERANCE = 1e-3


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('export', type=Path, help='ONNX file to read')
    parser.add_argument('config', type=Path, help='config of the same model')
    parser.add_argument('target', type=Path, help='checkpoint to write')
    parser.add_argument(
        '--tolerance',
        type=float,
        default=TOLERANCE,
        help='largest difference of scores, and of boxes as a share of their '
        'largest value (default: %(default)s)',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Convert a file, report, and return the exit code."""
    args = parse_args(argv)
    export = Export(args.export)
    model = build_model(args.config)
    check_size(model, export)
    layers = trace(model, torch.zeros(export.shape))
    pairs = match(layers, export.layers, args.export)
    check_filled(model, fill(pairs), args.export)
    folded = [
        mine for mine, their in pairs if mine.norm and their.norm is None
    ]
    print(
        f'{args.export}: {len(pairs)} convolutions in the places of those of '
        f'the model, {len(folded)} with a folded batch norm'
    )
    check_parity(model, export, pairs, args.tolerance)
    save(model, args.target)
    print(f'{args.target}: written; what to do next:')
    print(f'  mmskip stream {args.config} {args.target} VIDEO')
    return EXIT_OK


def save(model: nn.Module, target: Path) -> None:
    """Write a checkpoint, as a whole or not at all.

    Raises:
        UserError: It cannot be written.
    """
    content = dict(
        state_dict=model.state_dict(),
        meta=dict(dataset_meta=model.dataset_meta),
    )
    unfinished = target.with_name(f'{target.name}.unfinished')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, unfinished)
        unfinished.replace(target)
    except (OSError, RuntimeError) as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(f'cannot write {target}: {error}') from error


if __name__ == '__main__':
    sys.exit(run_tool(main, 'onnx_detectors'))
