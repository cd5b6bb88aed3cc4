"""J-HMDB's poses in the form of mmpose's annotation files."""

import os
from typing import Any

from .jhmdb_poses import ReadingReport, list_videos, read_pose_video

NAMES = (
    'neck',
    'belly',
    'head',
    *(
        f'{side}_{part}'
        for part in ('shoulder', 'hip', 'elbow', 'knee', 'wrist', 'ankle')
        for side in ('right', 'left')
    ),
)
# Numbers of images: video times this, plus frame.
IMAGES_PER_VIDEO = 10_000


def read_pose_json(
    root: str | os.PathLike, split: int, subset: str, variant: str = 'sub'
) -> tuple[dict[str, Any], ReadingReport]:
    """Read a split of a release as mmpose's ``Sub<split>_<subset>.json``.

    Coordinates count from 1, boxes are ``x, y, w, h`` with the last pixel at
    ``x + w``, and every joint is visible, as there.

    Args:
        root: Folder of the release.
        split: 1, 2 or 3.
        subset: ``train`` or ``test``.
        variant: ``sub`` for sub-JHMDB, ``full`` for J-HMDB.

    Returns:
        What the JSON file holds, and what was found on the way.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: An argument is out of range, or a file is not what it
            should be.
    """
    report = ReadingReport()
    images, annotations = [], []
    names = list_videos(root, split, subset, variant)
    for number, name in enumerate(names, 1):
        video = read_pose_video(root, name, report)
        for frame, (joints, box) in enumerate(
            zip(video.joints, video.boxes, strict=True)
        ):
            if box[0] != box[0]:  # NaN: nobody there
                continue
            image = dict(
                id=number * IMAGES_PER_VIDEO + frame + 1,
                file_name=video.file_name(frame),
                width=video.size[0],
                height=video.size[1],
                vid_id=f'{number:05d}',
                frame_id=number * IMAGES_PER_VIDEO + frame + 1,
                nframes=len(video.boxes),
                is_labeled=True,
            )
            x1, y1, x2, y2 = box.tolist()
            points = [v for x, y in joints.tolist() for v in (x, y, 2.0)]
            images.append(image)
            annotations.append(
                dict(
                    id=image['id'],
                    image_id=image['id'],
                    category_id=1,
                    track_id=0,
                    iscrowd=0,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    keypoints=points,
                )
            )
    person = dict(id=1, name='person', keypoints=list(NAMES))
    content = dict(images=images, annotations=annotations, categories=[person])
    return content, report
