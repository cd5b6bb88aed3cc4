"""Does a gate that is tuned by day hold at night?

Multiplies the frames of a video by gains, and runs a detector over each
version densely and with Skip-Convolutions. Writes night.csv and night.json:
AP, AP50 and MACs for each gain and threshold. The truth is a COCO-VID file,
or, without one, what the dense detector finds at the same gain with a score
above 0.3. A config without conversions gets those of
configs/_base_/conversions/output_norm.py. Example::

    python tools/benchmarks/night.py yolox_nano_8xb8-300e_coco.py \
        yolox_nano.pth vtest.avi --annotations pets09_s2l1.json
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.fileio import load
from rich.console import Console
from rich.table import Table
from torch import nn

from mmskip import accelerate, convert
from mmskip.apis import (
    UserError,
    init_model,
    is_converted,
    open_reader,
    stream_video,
)
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.evaluation.agreement import (
    average_precisions,
    boxes_of,
    sure_boxes,
)
from mmskip.experiments import positive, write_csv, write_json
from mmskip.plan import PRECISIONS
from mmskip.registry import build_own
from mmskip.skip_conv import NormGate

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = ROOT / 'configs/_base_/conversions/output_norm.py'


class Run(NamedTuple):
    """What a detector found in some frames.

    Attributes:
        boxes: In COCO's form of results; ``image_id`` is the frame's number
            and ``category_id`` the label.
        dense: MACs of a dense frame.
        spent: MACs of a frame, gates included, mean over the frames.
    """

    boxes: list[dict[str, Any]]
    dense: float
    spent: float


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='of a detector')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('video', help='a file or a folder of images')
    parser.add_argument('--annotations', help='its boxes, COCO-VID')
    parser.add_argument(
        '--frames',
        type=int,
        nargs=2,
        default=(0, sys.maxsize),
        metavar=('FIRST', 'END'),
        help='which frames, from 0, END not included (default all)',
    )
    parser.add_argument(
        '--gains', type=float, nargs='+', default=(1.0, 0.5, 0.2, 0.1)
    )
    parser.add_argument(
        '--thresholds',
        type=float,
        nargs='+',
        help='one for all gates, in turn (default the gates as they are)',
    )
    parser.add_argument(
        '--every',
        type=positive,
        nargs='+',
        default=(),
        metavar='N',
        help='also the dense model in every Nth frame, whose boxes stay',
    )
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='float32',
        help='of the plan with Skip-Convolutions',
    )
    parser.add_argument(
        '--calibration',
        metavar='FILE',
        help='for int8, of `mmskip calibrate --precision int8`',
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/night'))
    args = parser.parse_args(argv)
    if not 0 <= args.frames[0] < args.frames[1]:
        parser.error(f'--frames must be FIRST < END, got {args.frames}')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    model = prepare(
        args.config, args.checkpoint, args.precision, args.calibration
    )
    images = read_frames(args.video, *args.frames)
    truth = None
    if args.annotations is not None:
        truth = truth_of(args.annotations, model.dataset_meta['classes'])
    gates = [m for m in model.modules() if isinstance(m, NormGate)]
    rows = []
    for gain in args.gains:
        dark = [darkened(image, gain) for image in images]
        dense = run(model, dark, args.frames[0], dense=True)
        known = sure_boxes(dense.boxes) if truth is None else truth
        found = [('dense', dense)]
        found += [
            (f'every {step} frames', repeated(dense, args.frames[0], step))
            for step in args.every
        ]
        if args.thresholds is None:
            found.append(('gates', run(model, dark, args.frames[0])))
        for threshold in args.thresholds or ():
            for gate in gates:
                gate.threshold = threshold
            name = f'threshold {threshold:.4g}'
            found.append((name, run(model, dark, args.frames[0])))
        numbers = range(args.frames[0], args.frames[0] + len(images))
        rows += [
            dict(
                gain=gain,
                method=name,
                **precisions(known, result.boxes, numbers),
                GMAC=result.spent / 1e9,
                reduction=result.dense / result.spent,
            )
            for name, result in found
        ]
        # After each gain: it takes long.
        write_csv(args.out / 'night.csv', rows)
        content = dict(frames=len(images), rows=rows)
        write_json(args.out / 'night.json', content)
    show(rows, len(images))
    return EXIT_OK


def prepare(
    config: str,
    checkpoint: str,
    precision: str = 'float32',
    calibration: str | None = None,
) -> nn.Module:
    """A detector that is converted and fast."""
    model = init_model(config, checkpoint)
    if not is_converted(model):
        for conversion in Config.fromfile(SHIPPED).conversions:
            convert(model, build_own(conversion))
    try:
        accelerate(model, precision, calibration)
    except ValueError as error:
        raise UserError(f'--precision {precision}: {error}') from error
    return model


def read_frames(video: str, first: int, end: int) -> list[np.ndarray]:
    """Frames [first, end) of a video.

    Raises:
        UserError: There are none.
    """
    with open_reader(video) as reader:
        images = [frame.image for frame in islice(reader, first, end)]
    if not images:
        raise UserError(f'{video}: expected frames from {first} on, got none')
    return images


def darkened(image: np.ndarray, gain: float) -> np.ndarray:
    """An image of 8 bits as a camera with less light gives it."""
    return (image * gain).round().clip(0, 255).astype(np.uint8)


def run(
    model: nn.Module,
    images: Iterable[np.ndarray],
    first: int,
    dense: bool = False,
) -> Run:
    """Run a detector over frames, the first of which has a given number."""
    boxes, full, spent = [], 0, 0
    results = stream_video(model, images, dense=dense, with_mask=False)
    for number, result in enumerate(results):
        full += result.cost.dense
        spent += result.cost.executed + result.cost.overhead
        boxes += boxes_of(result.prediction, first + number)
    return Run(boxes, full / (number + 1), spent / (number + 1))


def repeated(dense: Run, first: int, step: int) -> Run:
    """Tell what a detector finds that runs in every so many frames."""
    by_frame: dict[int, list[dict[str, Any]]] = {}
    for box in dense.boxes:
        by_frame.setdefault(box['image_id'], []).append(box)
    last = max(by_frame, default=first)
    boxes = [
        dict(box, image_id=frame)
        for frame in range(first, last + 1)
        for box in by_frame.get(frame - (frame - first) % step, ())
    ]
    return Run(boxes, dense.dense, dense.spent / step)


def precisions(
    truth: Sequence[dict[str, Any]],
    found: Sequence[dict[str, Any]],
    frames: Sequence[int],
) -> dict[str, float]:
    """Name AP and AP50, for a row."""
    values = average_precisions(truth, found, frames)
    return dict(zip(('AP', 'AP50'), values, strict=True))


def truth_of(path: str, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The boxes of a COCO-VID file, as those of :class:`Run`.

    Raises:
        UserError: The detector does not know a class.
    """
    content = load(path)
    frame_of = {i['id']: i['frame_id'] for i in content['images']}
    names = {c['id']: c['name'] for c in content['categories']}
    unknown = set(names.values()) - set(classes)
    if unknown:
        raise UserError(
            f'{path}: expected classes of the detector, got {sorted(unknown)}'
        )
    return [
        dict(
            image_id=frame_of[box['image_id']],
            category_id=list(classes).index(names[box['category_id']]),
            bbox=box['bbox'],
        )
        for box in content['annotations']
    ]


def show(rows: Sequence[dict[str, Any]], frames: int) -> None:
    """Print the rows as a table."""
    table = Table(title=f'{frames} frames')
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        values = row.values()
        table.add_row(
            *(v if isinstance(v, str) else f'{v:.4g}' for v in values)
        )
    Console().print(table)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'night'))
