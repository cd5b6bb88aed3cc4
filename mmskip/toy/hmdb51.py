"""Write toy action videos in the layouts of HMDB51 and of its J-HMDB.

HMDB51, for recognition:

videos/<class>/<video>.avi
testTrainMulti_7030_splits/<class>_test_split<1..3>.txt    video.avi 0|1|2
train_split_1_list_videos.txt ...    lists for mmaction2, and classes.txt

J-HMDB, for localisation:

Rename_Images/<action>/<video>/00001.png
puppet_mask/<action>/<video>/puppet_mask.mat    part_mask (H x W x T)
splits/<action>_test_split<1..3>.txt            video.avi 1|2
JHMDB-GT.pkl                                    boxes, made from the masks

sub-JHMDB, for poses, has images and masks as well, and:

joint_positions/<action>/<video>/joint_positions.mat    pos_img (2 x 15 x T)
sub_splits/<action>_test_split_<1..3>.txt               video.avi 1|2
splits/<action>_test_split<1..3>.txt                    the same
"""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy.io import savemat

from mmskip.datasets.action_lists import write_hmdb51_lists
from mmskip.datasets.jhmdb_pose_release import VARIANTS
from mmskip.datasets.jhmdb_release import (
    NUM_SPLITS,
    read_masks,
    write_ground_truth,
)

from .figures import ACTIONS, ActorVideo
from .folder import (
    check_split_arguments,
    check_video_arguments,
    write_once,
    write_video,
)
from .joints import MOVES, FigureVideo

MARKER = 'toy_hmdb51.json'
JHMDB_MARKER = 'toy_jhmdb.json'
POSE_MARKER = 'toy_sub_jhmdb.json'
# They grow when the same arguments give other bytes.
VERSION = 1
JHMDB_VERSION = 2
POSE_VERSION = 1
LEAST = dict(train_videos=1, test_videos=1, unused_videos=0, frames=8, seed=0)
# Folder of HMDB51's splits; of J-HMDB's, and how its files end.
SPLITS = 'testTrainMulti_7030_splits'
JHMDB_SPLITS = ('splits', '_test_split{}.txt')
# Least and greatest height of the figure in HMDB51, as a share of the image's.
HEIGHTS = (0.55, 0.7)
# MATLAB's header has 116 bytes of text, in which scipy writes the time.
HEADER = b'MATLAB 5.0 MAT-file, written by mmskip'.ljust(116)


@dataclass(frozen=True)
class ClassVideos:
    """The numbers of videos of each class, by what a split does with them.

    Args:
        train: Videos that it trains on.
        test: Videos that it tests on.
        unused: Videos that it leaves out, as the original does.
    """

    train: int = 40
    test: int = 30
    unused: int = 2


def make_toy_hmdb51(
    root: str | os.PathLike,
    *,
    videos: ClassVideos = ClassVideos(),
    frames: int = 32,
    size: tuple[int, int] = (112, 96),
    fps: float = 10.0,
    seed: int = 0,
    on_video: Callable[[], None] | None = None,
) -> Path:
    """Write a toy HMDB51, unless it is there already.

    A class is a move of a figure; what is around it stands still. The same
    arguments give the same bytes with the same releases of numpy and OpenCV.

    Args:
        root: Folder to write to; made if need be.
        videos: Numbers of videos of each class.
        frames: Number of frames of each.
        size: ``(width, height)`` of the images in pixels, even numbers.
        fps: Frames per second.
        seed: Seed of all that is random.
        on_video: Called after each video written.

    Returns:
        ``root``, for ``data_root`` in a config.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds something else.
    """
    arguments = dict(
        version=VERSION,
        train_videos=videos.train,
        test_videos=videos.test,
        unused_videos=videos.unused,
        frames=frames,
        size=list(size),
        fps=fps,
        seed=seed,
    )
    check_video_arguments(arguments, LEAST)

    def write(folder: Path) -> None:
        (folder / SPLITS).mkdir()
        for name in MOVES:
            _write_class(folder, arguments, name, on_video)
        for split in range(1, NUM_SPLITS + 1):
            write_hmdb51_lists(
                folder / SPLITS, folder / 'videos', folder, split
            )

    return write_once(root, 'toy HMDB51', MARKER, arguments, write)


def make_toy_jhmdb(
    root: str | os.PathLike,
    *,
    train_videos: int = 12,
    test_videos: int = 6,
    frames: tuple[int, int] = (12, 24),
    size: tuple[int, int] = (128, 96),
    seed: int = 0,
    on_video: Callable[[], None] | None = None,
) -> Path:
    """Write a toy J-HMDB, unless it is there already.

    In every video one figure does one of eight things and walks through the
    image meanwhile. Its box is that of the figure alone. The same arguments
    give the same bytes with the same releases of numpy, OpenCV and scipy.

    Args:
        root: Folder to write to; made if need be.
        train_videos: Videos of each action that a split trains on.
        test_videos: Videos of each action that it tests on.
        frames: Fewest and most frames of a video; J-HMDB has 15 to 40.
        size: ``(width, height)`` of the images in pixels.
        seed: Seed of all that is random.
        on_video: Called after each video written.

    Returns:
        ``root``, for ``data_root`` of ``mmskip.JHMDBDataset``.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds something else.
    """
    arguments = dict(
        version=JHMDB_VERSION,
        train_videos=train_videos,
        test_videos=test_videos,
        frames=list(frames),
        size=list(size),
        seed=seed,
    )
    check_split_arguments(arguments)

    def write(folder: Path) -> None:
        for number, action in enumerate(sorted(ACTIONS)):
            name, film = folder_of(action), partial(ActorVideo, action)
            kind = _Action(name, number, film, _write_actor, (JHMDB_SPLITS,))
            _write_action(folder, arguments, kind, on_video)
        write_ground_truth(folder / 'JHMDB-GT.pkl', read_masks(folder))

    return write_once(root, 'toy J-HMDB', JHMDB_MARKER, arguments, write)


def make_toy_sub_jhmdb(
    root: str | os.PathLike,
    *,
    train_videos: int = 16,
    test_videos: int = 4,
    frames: tuple[int, int] = (16, 32),
    size: tuple[int, int] = (128, 96),
    seed: int = 0,
    on_video: Callable[[], None] | None = None,
) -> Path:
    """Write a toy sub-JHMDB, unless it is there already.

    In every video a figure with fifteen joints makes one of eight moves in
    front of a textured wall that stands still. The same arguments give the
    same bytes with the same releases of numpy, OpenCV and scipy.

    Args:
        root: Folder to write to; made if need be.
        train_videos: Videos of each action that a split trains on.
        test_videos: Videos of each action that it tests on.
        frames: Fewest and most frames of a video; JHMDB has 15 to 40.
        size: ``(width, height)`` of the images in pixels.
        seed: Seed of all that is random.
        on_video: Called after each video written.

    Returns:
        ``root``, for ``data_root`` of ``mmskip.JHMDBPoseDataset``.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: ``root`` holds something else.
    """
    arguments = dict(
        version=POSE_VERSION,
        train_videos=train_videos,
        test_videos=test_videos,
        frames=list(frames),
        size=list(size),
        seed=seed,
    )
    check_split_arguments(arguments)

    def write(folder: Path) -> None:
        for number, name in enumerate(MOVES):
            film = partial(FigureVideo, name)
            splits = tuple(VARIANTS.values())
            kind = _Action(name, number, film, _write_figure, splits)
            _write_action(folder, arguments, kind, on_video)

    return write_once(root, 'toy sub-JHMDB', POSE_MARKER, arguments, write)


def folder_of(action: str) -> str:
    """Name of an action as the release writes it: ``bounce_ball``."""
    return ACTIONS[action].__name__


def write_matrices(path: Path, matrices: Mapping[str, Any]) -> None:
    """Write a file of MATLAB that does not tell when it was written."""
    buffer = io.BytesIO()
    savemat(buffer, dict(matrices), do_compression=True)
    content = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEADER + content[len(HEADER) :])


def _write_class(
    root: Path,
    arguments: dict,
    name: str,
    on_video: Callable[[], None] | None,
) -> None:
    """Write the videos and the splits of one class."""
    seed, number = arguments['seed'], list(MOVES).index(name)
    # Marks of the split files: 1 trains, 2 tests, 0 does neither.
    marks = [
        mark
        for mark, key in ((1, 'train'), (2, 'test'), (0, 'unused'))
        for _ in range(arguments[f'{key}_videos'])
    ]
    folder = root / 'videos' / name
    folder.mkdir(parents=True)
    names = [f'toy_{name}_{index}.avi' for index in range(len(marks))]
    for index, file in enumerate(names):
        video = FigureVideo(
            name,
            (seed, number, index),
            arguments['frames'],
            tuple(arguments['size']),
            HEIGHTS,
            clutter=False,
            variety=1.0,
        )
        images = (shot.image for shot in video.film())
        write_video(folder / file, images, arguments['fps'], video.size)
        if on_video is not None:
            on_video()
    for split in range(1, NUM_SPLITS + 1):
        order = np.random.default_rng((seed, number, split)).permutation(marks)
        lines = [
            f'{file} {mark}\n'
            for file, mark in zip(names, order.tolist(), strict=True)
        ]
        path = root / SPLITS / f'{name}_test_split{split}.txt'
        path.write_text(''.join(lines))


class _Action(NamedTuple):
    """An action of a toy data set.

    Attributes:
        name: Name of its folders.
        number: Its number, one of the seeds.
        film: Makes a video of seeds, a number of frames and a size.
        write: Writes a video of a name into the data set.
        splits: Folders of the files of the splits, and their endings.
    """

    name: str
    number: int
    film: Callable[..., Any]
    write: Callable[[Path, str, Any], None]
    splits: Sequence[tuple[str, str]]


def _write_action(
    root: Path,
    arguments: dict,
    action: _Action,
    on_video: Callable[[], None] | None,
) -> None:
    """Write the videos and the splits of one action."""
    seed, train = arguments['seed'], arguments['train_videos']
    count = train + arguments['test_videos']
    names = [f'toy_{action.name}_{index}' for index in range(count)]
    low, high = arguments['frames']
    for index, name in enumerate(names):
        seeds = (seed, action.number, index)
        length = np.random.default_rng((*seeds, 1)).integers(low, high + 1)
        video = action.film(seeds, int(length), tuple(arguments['size']))
        action.write(root, f'{action.name}/{name}', video)
        if on_video is not None:
            on_video()
    for split in range(1, NUM_SPLITS + 1):
        order = np.random.default_rng((seed, action.number, count, split))
        trained = set(order.permutation(count)[:train].tolist())
        text = ''.join(
            f'{name}.avi {1 if index in trained else 2}\n'
            for index, name in enumerate(names)
        )
        for folder, ending in action.splits:
            path = root / folder / f'{action.name}{ending.format(split)}'
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def _write_actor(root: Path, name: str, video: ActorVideo) -> None:
    """Write frames and masks of one video."""
    images, masks = zip(*video.film(), strict=True)
    _write_images(root, name, images, masks)


def _write_figure(root: Path, name: str, video: FigureVideo) -> None:
    """Write frames, masks and joints of one video."""
    shots = list(video.film())
    images = [shot.image for shot in shots]
    _write_images(root, name, images, [shot.mask for shot in shots])
    joints = np.stack([shot.joints.T for shot in shots], -1) + 1  # from 1
    width, height = video.size
    middle = np.array([width, height])[:, None, None] / 2
    write_matrices(
        root / 'joint_positions' / name / 'joint_positions.mat',
        dict(
            pos_img=joints,
            pos_world=(joints - middle) / middle,
            scale=np.ones((1, len(shots))),
            viewpoint='S',
            action=name.split('/')[0],
        ),
    )


def _write_images(
    root: Path,
    name: str,
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
) -> None:
    """Write the frames of one video and the masks of its figure."""
    folder = root / 'Rename_Images' / name
    folder.mkdir(parents=True)
    for number, image in enumerate(images, 1):
        _, data = cv2.imencode('.png', image)
        (folder / f'{number:05d}.png').write_bytes(data.tobytes())
    write_matrices(
        root / 'puppet_mask' / name / 'puppet_mask.mat',
        dict(part_mask=np.stack(masks, -1)),
    )
