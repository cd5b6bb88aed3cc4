"""Does damage to a file of the user's ever crash, hang or go unnamed?

Small valid files of every reader are damaged at random: bits flipped, chunks
cut, doubled or lost, encodings swapped, numbers and values replaced. Each
must be read, or refused with the file's name. Example::

    python tools/check_readers.py --mutations 5000 --out work_dirs/fuzz.json

Cases run in a process of their own, so that crashes and hangs are counted
like all else. The same seed does the same damage. The exit status is 1 if
anything was wrong.
"""

import argparse
import json
import pickle
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.registry import DefaultScope, init_default_scope
from rich.console import Console
from rich.table import Table
from scipy.io import savemat

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK, run_tool
from mmskip.apis.fuzzing import BAD, GOOD, Reader, Result, fuzz
from mmskip.datasets import (
    ActionFrameDataset,
    ActionVideoDataset,
    JHMDBDataset,
    JHMDBPoseDataset,
    LoadActorBoxes,
    UADETRACDataset,
)
from mmskip.datasets.action_lists import (
    read_activitynet,
    read_class_index,
    read_class_splits,
    read_kinetics_csv,
    read_moments_classes,
    read_moments_csv,
    read_segments,
    read_thumos14,
    read_video_list,
)
from mmskip.datasets.jhmdb_pose_release import (
    ReadingReport,
    list_videos,
    read_pose_json,
    read_pose_video,
)
from mmskip.datasets.jhmdb_release import (
    read_mask,
    tubes_of,
    write_ground_truth,
)
from mmskip.datasets.mat_files import MatReader
from mmskip.evaluation.compute_cost import read_groups
from mmskip.experiments import positive, write_json
from mmskip.visualization.frame_usage import count_stops, read_videos

# Serialising takes longer than reading.
PLAIN = dict(pipeline=[], serialize_data=False)
WIDTH, HEIGHT, FRAMES = 40, 30, 3


def write_files(root: Path) -> None:
    """Write a small valid file for every reader."""
    _write_detrac(root / 'detrac')
    _write_jhmdb(root / 'jhmdb')
    _write_lists(root)
    _write_results(root)


def _write_detrac(root: Path) -> None:
    images = root / 'Insight-MVT_Annotation_Train/MVI_1'
    images.mkdir(parents=True)
    for number in range(1, FRAMES + 1):
        image = np.full((HEIGHT, WIDTH, 3), 99, np.uint8)
        cv2.imwrite(str(images / f'img{number:05d}.jpg'), image)
    box = '<box left="{}" top="2.5" width="9" height="8"/>'
    target = f'<target id="{{}}">{box}<attribute vehicle_type="car"/></target>'
    frames = ''.join(
        f'<frame density="2" num="{number}"><target_list>'
        f'{target.format(1, number)}{target.format(2, number + 9)}'
        '</target_list></frame>\n'
        for number in range(1, FRAMES + 1)
    )
    folder = root / 'DETRAC-Train-Annotations-XML'
    folder.mkdir()
    (folder / 'MVI_1.xml').write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<sequence name="MVI_1">'
        f'<ignored_region>{box.format(20)}</ignored_region>\n{frames}'
        '</sequence>'
    )


def _write_jhmdb(root: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH, FRAMES), np.uint8)
    mask[5:20, 8:28] = 1
    joints = np.random.default_rng(0).uniform(1, 30, (2, 15, FRAMES))
    names = ('golf/v1', 'golf/v2')
    for name in names:
        for kind, array in (
            ('puppet_mask', dict(part_mask=mask)),
            ('joint_positions', dict(pos_img=joints)),
        ):
            path = root / kind / name / f'{kind}.mat'
            path.parent.mkdir(parents=True)
            savemat(path, array)
            savemat(path.with_name('small.mat'), array, do_compression=True)
        frames = root / 'Rename_Images' / name
        frames.mkdir(parents=True)
        for number in range(1, FRAMES + 1):
            (frames / f'{number:05d}.png').touch()
    for folder, ending in (('splits', ''), ('sub_splits', '_')):
        for split in (1, 2, 3):
            path = root / folder / f'golf_test_split{ending}{split}.txt'
            path.parent.mkdir(exist_ok=True)
            path.write_text('v1.avi 1\nv2.avi 2\n')
    write_ground_truth(
        root / 'JHMDB-GT.pkl',
        dict(
            labels=['golf'],
            gttubes={name: {0: tubes_of(mask)} for name in names},
            nframes=dict.fromkeys(names, FRAMES),
            resolution=dict.fromkeys(names, (HEIGHT, WIDTH)),
            train_videos=[['golf/v1']] * 3,
            test_videos=[['golf/v2']] * 3,
        ),
    )
    content, _ = read_pose_json(root, 1, 'train')
    (root / 'poses.json').write_text(json.dumps(content))
    with (root / 'proposals.pkl').open('wb') as file:
        table = np.array([[0.1, 0.2, 0.5, 0.6, 0.95]])
        pickle.dump({'golf/v1,0001': table, 'golf/v2,0001': table}, file)


def _write_lists(root: Path) -> None:
    texts = dict(
        hmdb51={
            f'{name}_test_split1.txt': 'a.avi 1\nb.avi 2\nc.avi 0\n'
            for name in ('run', 'wave')
        },
        lists={
            'kinetics.csv': 'label,youtube_id,time_start,time_end,split\n'
            '"riding a bike",abc,1,11,train\nzumba,d-e_f,20,30,train\n',
            'mini.txt': 'abc 300 0\nd/e.mp4 280 1\nf 9 1\n',
            'moments.csv': 'run/a.mp4,run,3,0\nwave/"b".mp4,wave,2,1\n',
            'categories.txt': 'run,0\nwave,1\n',
            'index.txt': ''.join(f'{n} Class{n}\n' for n in range(1, 102)),
            'videos.txt': 'a.mp4 0\nb.mp4 1\nc/d.mp4 0\n',
            'frames.txt': 'a 12 0\nb 7 1\nc/d 30 0\n',
            'parts.txt': 'a 3 12 0 2\nb 0 7 1\na 20 9\n',
        },
    )
    for folder, files in texts.items():
        (root / folder).mkdir()
        for name, text in files.items():
            (root / folder / name).write_text(text)
    database = {
        name: dict(
            subset=subset,
            annotations=[dict(label=label, segment=[1.5, 20])],
        )
        for name, subset, label in (
            ('a', 'training', 'Zumba'),
            ('b', 'validation', 'Archery'),
        )
    }
    taxonomy = [
        dict(nodeName=name, parentName='Root') for name in ('Archery', 'Zumba')
    ]
    (root / 'lists/activitynet.json').write_text(
        json.dumps(dict(database=database, taxonomy=taxonomy))
    )
    kinds = ('video_name', 'background_video', 'primary_action_index')
    videos = [(f'v{n}', 'NO', float(n)) for n in range(1, 9)]
    array = np.array([videos], [(kind, object) for kind in kinds])
    savemat(root / 'lists/thumos.mat', dict(validation_videos=array))


def _write_results(root: Path) -> None:
    folder = root / 'results'
    folder.mkdir()
    (folder / 'groups.json').write_text('{"a": "fast", "b": "slow"}')
    videos = [
        dict(video='a.mp4', labels=[0], scores=[0.5, 0.5], stops=[0, 1, -1]),
        dict(video='b.mp4', labels=[1], scores=[0.1, 0.9], stops=[1, 1, 0]),
    ]
    (folder / 'videos.json').write_text(
        json.dumps(dict(videos=videos, num_places=1, classes=['x', 'y']))
    )


def _read_detrac(root: Path, path: Path, mat: MatReader) -> None:
    UADETRACDataset(str(root / 'detrac'), **PLAIN)


def _read_actors(root: Path, path: Path, mat: MatReader) -> None:
    load = LoadActorBoxes(str(path))
    for name in ('golf/v1', 'golf/v2'):
        load.transform(dict(video_id=name, frame_id=0, start_index=1))


def _read_poses(root: Path, path: Path, mat: MatReader) -> None:
    with DefaultScope.overwrite_default_scope('mmpose'):
        init_default_scope('mmpose')
        JHMDBPoseDataset(str(path), data_root=str(root / 'jhmdb'), **PLAIN)


def _read_videos(root: Path, path: Path, mat: MatReader) -> None:
    report = read_videos(path)
    count_stops(report['videos'], report['num_places'] or 0)


def _action_list(kind: type, **options: Any) -> Callable:
    return lambda root, path, mat: kind(
        ann_file=str(path), num_classes=3, **PLAIN, **options
    )


MASK = 'jhmdb/puppet_mask/golf/v1/'
JOINTS = 'jhmdb/joint_positions/golf/v1/'
READERS = (
    Reader(
        'UA-DETRAC annotation',
        'detrac/DETRAC-Train-Annotations-XML/MVI_1.xml',
        _read_detrac,
    ),
    Reader(
        'UA-DETRAC image',
        'detrac/Insight-MVT_Annotation_Train/MVI_1/img00001.jpg',
        _read_detrac,
    ),
    Reader(
        'J-HMDB boxes',
        'jhmdb/JHMDB-GT.pkl',
        lambda root, path, mat: JHMDBDataset(
            data_root=str(root / 'jhmdb'), **PLAIN
        ),
    ),
    Reader('J-HMDB proposals', 'jhmdb/proposals.pkl', _read_actors),
    Reader(
        'J-HMDB split',
        'jhmdb/splits/golf_test_split1.txt',
        lambda root, path, mat: list_videos(
            root / 'jhmdb', 1, 'train', 'full'
        ),
    ),
    Reader(
        'sub-JHMDB split',
        'jhmdb/sub_splits/golf_test_split_1.txt',
        lambda root, path, mat: list_videos(root / 'jhmdb', 1, 'test'),
    ),
    Reader(
        'J-HMDB mask',
        f'{MASK}puppet_mask.mat',
        lambda root, path, mat: read_mask(mat, path),
    ),
    Reader(
        'J-HMDB mask, compressed',
        f'{MASK}small.mat',
        lambda root, path, mat: read_mask(mat, path),
    ),
    Reader(
        'J-HMDB joints',
        f'{JOINTS}joint_positions.mat',
        lambda root, path, mat: read_pose_video(
            root / 'jhmdb', 'golf/v1', ReadingReport(), mat
        ),
    ),
    Reader('J-HMDB poses', 'jhmdb/poses.json', _read_poses),
    Reader(
        'HMDB51 split',
        'hmdb51/wave_test_split1.txt',
        lambda root, path, mat: read_class_splits(path.parent, 1),
    ),
    Reader(
        'ActivityNet annotation',
        'lists/activitynet.json',
        lambda root, path, mat: (read_activitynet(path), read_segments(path)),
    ),
    Reader(
        'Kinetics annotation',
        'lists/kinetics.csv',
        lambda root, path, mat: read_kinetics_csv(path),
    ),
    Reader(
        'Mini-Kinetics list',
        'lists/mini.txt',
        lambda root, path, mat: read_video_list(path),
    ),
    Reader(
        'Moments annotation',
        'lists/moments.csv',
        lambda root, path, mat: read_moments_csv(path, ['run', 'wave']),
    ),
    Reader(
        'Moments classes',
        'lists/categories.txt',
        lambda root, path, mat: read_moments_classes(path),
    ),
    Reader(
        "THUMOS'14 annotation",
        'lists/thumos.mat',
        lambda root, path, mat: read_thumos14(path, mat),
    ),
    Reader(
        "THUMOS'14 classes",
        'lists/index.txt',
        lambda root, path, mat: read_class_index(path),
    ),
    Reader(
        'list of videos', 'lists/videos.txt', _action_list(ActionVideoDataset)
    ),
    Reader(
        'list of frames', 'lists/frames.txt', _action_list(ActionFrameDataset)
    ),
    Reader(
        'list of labels',
        'lists/parts.txt',
        _action_list(ActionFrameDataset, multi_class=True, with_offset=True),
    ),
    Reader(
        'groups of videos',
        'results/groups.json',
        lambda root, path, mat: read_groups(path),
    ),
    Reader('results of videos', 'results/videos.json', _read_videos),
)


def show(results: Sequence[Result]) -> Table:
    """A row for each reader."""
    table = Table('reader', box=None)
    for name in ('cases', *GOOD, *BAD, 'slowest (ms)'):
        table.add_column(name, justify='right')
    for result in (*results, _total(results)):
        table.add_row(
            result.name,
            f'{result.ends.total():,}',
            *(f'{result.ends[end]:,}' for end in (*GOOD, *BAD)),
            f'{1000 * result.slowest:.0f}',
        )
    return table


def _total(results: Sequence[Result]) -> Result:
    ends = sum((result.ends for result in results), Counter())
    slowest = max(result.slowest for result in results)
    return Result('all', ends, slowest, [])


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument(
        '--mutations',
        type=positive,
        default=5000,
        help='of all files together (default: 5000)',
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--readers', nargs='+', help='only those whose names begin so'
    )
    parser.add_argument(
        '--limit',
        type=float,
        default=90.0,
        help='seconds after which a case hangs (default: 90)',
    )
    parser.add_argument('--out', type=Path, help='JSON file for the results')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Damage, read and count."""
    args = parse_args(argv)
    chosen = [
        reader
        for reader in READERS
        if args.readers is None or reader.name.startswith(tuple(args.readers))
    ]
    if not chosen:
        raise UserError(
            f'expected --readers among {[r.name for r in READERS]}, got '
            f'{args.readers}'
        )
    each = -(-args.mutations // len(chosen))
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_files(root)
        results = [
            fuzz(reader, root, each, args.seed, args.limit)
            for reader in chosen
        ]
    console.print(show(results))
    for result in results:
        for number, end, text in result.examples:
            console.print(f'{result.name}, case {number}: {end}\n{text}')
    if args.out is not None:
        rows = [
            {**r._asdict(), 'ends': dict(r.ends)}
            for r in (*results, _total(results))
        ]
        write_json(args.out, dict(seed=args.seed, results=rows))
    bad = sum(result.ends[end] for result in results for end in BAD)
    return EXIT_INCOMPLETE if bad else EXIT_OK


if __name__ == '__main__':
    sys.exit(run_tool(main, 'check_readers'))
