"""How fast is a trained detector on a real video, beside OpenVINO?

Times the network of a detector, up to its raw outputs, on the frames of a
video as its test pipeline prepares them: with Skip-Convolutions in a plan of
each precision, and densely in OpenVINO, in float32 and in what else there is.
They take turns, frame by frame, in one process; medians. A config without
conversions gets those of configs/_base_/conversions/output_norm.py; one of
`mmskip tune` or `mmskip calibrate` has its own. What is in int8 is
calibrated on the first frames. How many boxes are found is told by
tools/benchmarks/night.py. Example::

    python tools/benchmarks/real_video.py yolox_nano_8xb8-300e_coco.py \
        yolox_nano.pth vtest.avi --precision float32 bfloat16
"""

import argparse
import os
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mmskip import convert, revert
from mmskip.apis import (
    FramePipeline,
    UserError,
    init_model,
    is_converted,
    open_reader,
)
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.experiments import (
    WARM_UP,
    Contest,
    RawOutputs,
    build_rivals,
    build_skips,
    measure,
    write_json,
)
from mmskip.plan import FEW_FRAMES, PRECISIONS, fold
from mmskip.registry import build_own

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = ROOT / 'configs/_base_/conversions/output_norm.py'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='of a detector')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('video', help='a file or a folder of images')
    parser.add_argument('--frames', type=int, default=200)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument(
        '--precision', nargs='+', choices=PRECISIONS, default=['float32']
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    parser.add_argument('--out', type=Path, help='folder for rows.json')
    args = parser.parse_args(argv)
    if args.frames <= WARM_UP:
        parser.error(f'--frames: expected more than {WARM_UP}')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    dense, skip = (
        init_model(args.config, args.checkpoint, cfg_options=args.cfg_options)
        for _ in range(2)
    )
    if is_converted(dense):
        revert(dense)
    else:
        for conversion in Config.fromfile(SHIPPED).conversions:
            convert(skip, build_own(conversion))
    frames = read_frames(dense, args.video, args.frames)
    fold(dense)
    network = RawOutputs(dense, is_model=True)
    examples = frames[:FEW_FRAMES]
    rivals, missing = build_rivals(
        ['openvino'], network, examples, args.threads
    )
    for name, reason in missing.items():
        print(f'missing: {name}: {reason}')
    skips = build_skips(
        RawOutputs(skip, is_model=True), args.precision, examples
    )
    contest = Contest(network, skips, rivals, args.precision)
    load = os.getloadavg()[0]
    with torch.inference_mode():
        rows = measure(contest, frames, 'video', None, len(frames) - 1)
    show(rows, len(frames), load)
    if args.out is not None:
        write_json(args.out / 'rows.json', rows)
    return EXIT_OK


def read_frames(model: nn.Module, video: str, number: int) -> list[Tensor]:
    """Prepare the first frames of a video as a detector sees them.

    Raises:
        UserError: The video has fewer.
    """
    prepare = FramePipeline(model)
    frames = []
    with open_reader(video) as reader:
        for frame in islice(reader, number):
            data = model.data_preprocessor(prepare(frame.image), False)
            frames.append(
                data['inputs'].contiguous(memory_format=torch.channels_last)
            )
    if len(frames) < number:
        raise UserError(
            f'{video}: expected at least {number} frames, got {len(frames)}; '
            'take fewer --frames'
        )
    return frames


def show(rows: Sequence[dict[str, Any]], frames: int, load: float) -> None:
    """Print the rows as a table."""
    table = Table(
        title=f'{frames} frames, load of the machine {load:.1f} before'
    )
    rivals = list(rows[0]['rivals'])
    for head in ('precision', 'fewer MACs', 'ms', *rivals):
        table.add_column(head)
    for row in rows:
        times = [row['rivals'][name]['ms'] for name in rivals]
        table.add_row(
            row['precision'],
            f'{row["mac_reduction"]:.2f}x',
            f'{row["skip_ms"]:.2f}',
            *[f'{ms:.2f}: {ms / row["skip_ms"]:.2f}x' for ms in times],
        )
    Console().print(table)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'real_video'))
