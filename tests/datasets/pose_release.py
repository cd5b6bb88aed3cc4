"""Write a tiny release of sub-JHMDB."""

from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

WIDTH, HEIGHT = 40, 30
# Joint j of frame t is at (J0 + j, J0 + 2 + t), counted from 1.
J0 = 10


def write_release(root: Path, frames=(3, 4), actions=('golf', 'walk')):
    """Per action a video to train on and one to test on, in every split."""
    for number, action in enumerate(actions):
        for mark, length in zip((1, 2), frames, strict=True):
            write_video(root, f'{action}/v{mark}', length + number)
        for folder, ending in (
            ('sub_splits', '_test_split_{}.txt'),
            ('splits', '_test_split{}.txt'),
        ):
            for split in (1, 2, 3):
                path = root / folder / f'{action}{ending.format(split)}'
                path.parent.mkdir(exist_ok=True)
                path.write_text('v1.avi 1\nv2.avi 2\n')
    return root


def write_video(root: Path, name: str, frames: int) -> None:
    write_images(root, name, frames)
    joints = np.zeros((2, 15, frames))
    joints[0] = J0 + np.arange(15)[:, None]
    joints[1] = J0 + 2 + np.arange(frames)
    write_matrix(root, 'joint_positions', name, pos_img=joints)
    mask = np.zeros((HEIGHT, WIDTH, frames), np.uint8)
    for t in range(frames):
        mask[5 + t : 20 + t, 8:28, t] = 1 + t  # parts have numbers
    write_matrix(root, 'puppet_mask', name, part_mask=mask)


def write_images(root: Path, name: str, frames: int) -> None:
    folder = root / 'Rename_Images' / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    image = np.random.default_rng(0).integers(
        0, 255, (HEIGHT, WIDTH, 3), np.uint8
    )
    for t in range(frames):
        cv2.imwrite(str(folder / f'{t + 1:05d}.png'), image)


def write_matrix(root: Path, kind: str, name: str, **matrix) -> Path:
    files = dict(
        joint_positions='joint_positions.mat', puppet_mask='puppet_mask.mat'
    )
    path = root / kind / name / files[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, matrix)
    return path
