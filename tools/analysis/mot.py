"""MOTA, IDF1 and id switches of tracks against a ground truth.

Results are text files of MOTChallenge (frame, id, x, y, width, height, ...;
frames count from 1), as `mmskip stream --track --json tracks.txt` writes them;
the truth is one, too, or a COCO-VID file with `instance_id`. Classes are not
told apart: give files of one class. Boxes without an id (-1) count as not
found, and objects of the truth with a confidence of 0 are not looked for.
Example::

    python tools/analysis/mot.py gt.txt dense.txt skip.txt --out work_dirs/mot
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_OK, run_tool
from mmskip.experiments import write_csv, write_json
from mmskip.reading import excerpt, read_csv, read_json, reading

#: Frame, from 1 -> id -> (x, y, width, height).
Tracks = Mapping[int, Mapping[int, Sequence[float]]]

# Column of the table -> metric of motmetrics.
COLUMNS = dict(
    MOTA='mota',
    MOTP='motp',
    IDF1='idf1',
    switches='num_switches',
    fragments='num_fragmentations',
    missed='num_misses',
    false='num_false_positives',
    objects='num_unique_objects',
)
PERCENT = ('MOTA', 'MOTP', 'IDF1')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('truth', help='MOTChallenge text or COCO-VID json')
    parser.add_argument('results', nargs='+', help='MOTChallenge text')
    parser.add_argument(
        '--frames',
        type=int,
        nargs=2,
        default=(0, sys.maxsize),
        metavar=('FIRST', 'END'),
        help='which frames, from 0, END not included (default all)',
    )
    parser.add_argument(
        '--iou',
        type=float,
        default=0.5,
        help='from which on a box is that of an object',
    )
    parser.add_argument(
        '--out', type=Path, help='folder for mot.csv and mot.json'
    )
    args = parser.parse_args(argv)
    if not 0 <= args.frames[0] < args.frames[1]:
        parser.error(f'--frames must be FIRST < END, got {args.frames}')
    if not 0 < args.iou <= 1:
        parser.error(f'--iou must be in (0, 1], got {args.iou}')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    read = read_coco if args.truth.endswith('.json') else read_mot
    truth = part_of(read(args.truth), *args.frames)
    if not any(truth.values()):
        raise UserError(
            f'{args.truth}: expected objects in the frames asked for, got none'
        )
    rows = [
        dict(
            result=path,
            **score(truth, part_of(read_mot(path), *args.frames), args.iou),
        )
        for path in args.results
    ]
    show(rows)
    if args.out is not None:
        write_csv(args.out / 'mot.csv', rows)
        write_json(args.out / 'mot.json', rows)
    return EXIT_OK


def read_mot(path: str) -> Tracks:
    """Read a text file of MOTChallenge.

    Rows of no track (id -1), and those with a confidence of 0, which a
    ground truth marks that way, are left out.

    Raises:
        InputError: A row is none, or an id comes twice in a frame.
    """
    tracks: dict[int, dict[int, Sequence[float]]] = defaultdict(dict)
    with reading(path, 'a text file of MOTChallenge'):
        for line, row in read_csv(path):
            try:
                values = [float(value) for value in row[:7]]
                frame, number = (int(value) for value in values[:2])
                x, y, width, height = values[2:6]
            except ValueError as error:
                raise UserError(
                    f'{path}: line {line}: expected frame,id,x,y,width,'
                    f'height[,confidence,...], got {excerpt(",".join(row))}'
                ) from error
            if number < 0 or values[6:] == [0]:
                continue
            if number in tracks[frame]:
                raise UserError(
                    f'{path}: line {line}: expected an id once in a frame, '
                    f'got {number} twice in frame {frame}'
                )
            tracks[frame][number] = (x, y, width, height)
    return tracks


def read_coco(path: str) -> Tracks:
    """Read a COCO-VID file; its frames count from 0.

    Raises:
        InputError: It is none, or its boxes have no ``instance_id``.
    """
    advice = "are there 'frame_id' and 'instance_id'?"
    with reading(path, 'a COCO-VID file', advice):
        content = read_json(path)
        frames = {i['id']: i['frame_id'] + 1 for i in content['images']}
        if len(set(frames.values())) < len(frames):
            raise UserError(
                f'{path}: expected one video, got several; '
                'make a file for each'
            )
        tracks: dict[int, dict[int, Sequence[float]]] = {
            frame: {} for frame in frames.values()
        }
        for box in content['annotations']:
            frame = frames[box['image_id']]
            tracks[frame][box['instance_id']] = box['bbox']
    return tracks


def part_of(tracks: Tracks, first: int, end: int) -> Tracks:
    """Keep the frames [first, end), which count from 0."""
    return {n: boxes for n, boxes in tracks.items() if first < n <= end}


def score(truth: Tracks, found: Tracks, iou: float = 0.5) -> dict[str, Any]:
    """Compare tracks with those of the truth.

    Args:
        truth: Those there are.
        found: Those found.
        iou: Of a box and an object, from which on they may match.

    Returns:
        MOTA, MOTP (mean IoU of what matches) and IDF1 in percent, and
        numbers of ids that switched, of tracks that were interrupted, of
        boxes missed and false, and of objects.

    Raises:
        UserError: motmetrics is not installed.

    Source: Bernardin and Stiefelhagen 2008 (MOTA); Ristani et al. 2016
        (IDF1), https://arxiv.org/abs/1609.01775.
    """
    motmetrics = import_motmetrics()
    events = motmetrics.MOTAccumulator()
    for frame in sorted({*truth, *found}):
        objects, boxes = truth.get(frame, {}), found.get(frame, {})
        near = motmetrics.distances.boxiou(
            np.array(list(objects.values())).reshape(-1, 1, 4),
            np.array(list(boxes.values())).reshape(1, -1, 4),
        )
        events.update(
            list(objects),
            list(boxes),
            np.where(near >= iou, 1 - near, np.nan),
            frameid=frame,
        )
    values = motmetrics.metrics.create().compute(
        events, metrics=list(COLUMNS.values()), return_dataframe=False
    )
    row = {name: values[metric] for name, metric in COLUMNS.items()}
    # It is a distance there.
    row['MOTP'] = 1 - row['MOTP']
    return {
        name: 100 * float(value) if name in PERCENT else int(value)
        for name, value in row.items()
    }


def import_motmetrics() -> ModuleType:
    """Import the package that scores tracks, an optional one.

    Raises:
        UserError: It is not installed.
    """
    try:
        return import_module('motmetrics')
    except ImportError as error:
        raise UserError(
            f'expected the package motmetrics, got: {error}; pip install '
            "'mmskip[cameras]'"
        ) from error


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    table = Table()
    for name in rows[0]:
        table.add_column(name, justify='left' if name == 'result' else 'right')
    for row in rows:
        table.add_row(
            *(
                f'{value:.1f}' if name in PERCENT else str(value)
                for name, value in row.items()
            )
        )
    Console().print(table)


if __name__ == '__main__':
    sys.exit(run_tool(main, 'mot'))
