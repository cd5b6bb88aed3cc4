"""J-HMDB for pose estimation, in tracks of one person."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import mmpose
import numpy as np
from mmengine.logging import print_log
from mmpose.datasets import JhmdbDataset

from mmskip.reading import InputError, reading
from mmskip.registry import DATASETS

from .jhmdb_pose_release import check_pose_json, read_pose_json

# Names and sides of the joints. mmpose looks for this file from the working
# directory first, where one of another data set may lie.
JOINTS = '.mim/configs/_base_/datasets/jhmdb.py'


@DATASETS.register_module()
class JHMDBPoseDataset(JhmdbDataset):
    """mmpose's ``JhmdbDataset``, also from the original release, for videos.

    Without ``ann_file`` it reads the release as it lies in ``data_root``
    (:mod:`mmskip.datasets.jhmdb_pose_release`), with one it reads mmpose's
    JSON; the samples are the same. What was left out, and what is odd about
    the release, is counted in the log.

    Samples have ``video_id``, the folder of the image, followed by ``#`` and
    the ``track_id`` where a video has several persons, so that
    ``mmskip.VideoHook`` and ``mmskip.VideoOrderSampler`` make one stream of
    each person; and ``frame_id``, the number in the file's name. Let
    ``PackPoseInputs`` pack them: ``meta_keys`` with ``video_id``.

    A crop that follows the box of every frame moves what stands still, and a
    network that computes what changed then computes everything. With
    ``crop_span`` frames share a crop around all of their boxes. Boxes, by
    which PCK is normalised, stay those of each frame.

    Args:
        ann_file: mmpose's JSON, in which ``{split}`` and ``{subset}`` are
            filled in; '' reads the release.
        split: 1, 2 or 3. Results are the mean of the three.
        subset: ``train`` or ``test``.
        variant: ``sub`` for sub-JHMDB, ``full`` for J-HMDB; of the release.
        crop_span: How many consecutive frames of a track share a crop: 1
            each has its own, as in the stock data set; n the first n, the
            next n and so on, which suits ``reset_interval=n``; None all of
            them. Ours.
        **options: Further ones of mmpose's ``JhmdbDataset``.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: An argument is out of range.
        InputError: A file is not what it should be, or a frame has several
            persons without ``track_id``.
    """

    METAINFO: ClassVar[dict] = dict(
        from_file=str(Path(mmpose.__file__).parent / JOINTS)
    )

    def __init__(
        self,
        ann_file: str = '',
        split: int = 1,
        subset: str = 'train',
        variant: str = 'sub',
        crop_span: int | None = 1,
        **options: Any,
    ) -> None:
        if crop_span is not None and (
            not isinstance(crop_span, int) or crop_span < 1
        ):
            raise ValueError(
                f'expected crop_span 1, 2, ... or None, got {crop_span!r}'
            )
        self.split = split
        self.subset = subset
        self.variant = variant
        self.crop_span = crop_span
        if ann_file:
            ann_file = ann_file.format(split=split, subset=subset)
        super().__init__(ann_file, **options)

    def load_data_list(self) -> list[dict]:
        """Read the samples, tell tracks, and share crops."""
        if self.ann_file:
            if not Path(self.ann_file).is_file():
                raise FileNotFoundError(
                    f'{self.ann_file}: expected annotations of mmpose, found '
                    'none; leave out ann_file to read the original release'
                )
            check_pose_json(self.ann_file)
        path = self.bbox_file or self.ann_file or self.data_root or '.'
        with reading(path, 'annotated poses'):
            read = super().load_data_list if self.ann_file else self._read
            samples = read()
            if not samples:
                raise InputError(
                    f'{self._source}: expected frames with a person, got none'
                )
            _tell_tracks(samples, self._source)
            if self.crop_span != 1:
                share_crops(samples, self.crop_span)
        return samples

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Parse an annotation, and keep which track it is of."""
        image = raw_data_info['raw_img_info']
        path = PurePosixPath(image['file_name'])
        if not path.stem.isdigit() or not path.parent.name:
            raise InputError(
                f'{self._source}: expected images like <video>/00001.png, '
                f'got {path}'
            )
        info = super().parse_data_info(raw_data_info)
        info['video_id'] = str(path.parent)
        info['frame_id'] = int(path.stem)
        info['track_id'] = raw_data_info['raw_ann_info'].get('track_id')
        return info

    @property
    def _source(self) -> str:
        """The file or the folder that messages name."""
        where = f'split {self.split} ({self.subset})'
        return self.ann_file or f'{self.data_root}, {where}'

    def _read(self) -> list[dict]:
        """Read the original release."""
        content, report = read_pose_json(
            self.data_root or '.', self.split, self.subset, self.variant
        )
        print_log(f'{self._source}: {report}', 'current')
        pairs = zip(content['images'], content['annotations'], strict=True)
        infos = [
            self.parse_data_info(
                dict(raw_ann_info=annotation, raw_img_info=image)
            )
            for image, annotation in pairs
        ]
        return self._get_topdown_data_infos(infos)

    def _get_topdown_data_infos(self, instance_list: list[dict]) -> list[dict]:
        """Leave out what mmpose calls invalid, and say how much it is."""
        kept = super()._get_topdown_data_infos(instance_list)
        if len(kept) < len(instance_list):
            ids = {id(info) for info in kept}
            lost = [i['img_path'] for i in instance_list if id(i) not in ids]
            print_log(
                f'{self._source}: {len(lost)} of {len(instance_list)} frames '
                'left out, without a box or a joint in the image, the first '
                f'of them {lost[0]}',
                'current',
            )
        return kept


def share_crops(samples: Sequence[dict], span: int | None) -> None:
    """Give consecutive frames of a track one crop around all their boxes.

    ``GetBBoxCenterScale`` of mmpose takes it and adds its padding.

    Args:
        samples: With ``bbox`` (1, 4), ``video_id`` and ``frame_id``; they
            get ``bbox_center`` and ``bbox_scale``, float32, (1, 2).
        span: Number of frames that share one; None for all of a track.
    """
    tracks: dict[str, list[dict]] = {}
    for sample in samples:
        tracks.setdefault(sample['video_id'], []).append(sample)
    for track in tracks.values():
        track.sort(key=lambda sample: sample['frame_id'])
        step = span or len(track)
        for start in range(0, len(track), step):
            part = track[start : start + step]
            boxes = np.concatenate([sample['bbox'] for sample in part])
            low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
            for sample in part:
                sample['bbox_center'] = (low + high)[None] / 2
                sample['bbox_scale'] = (high - low)[None]


def _tell_tracks(samples: Sequence[dict], source: str) -> None:
    """Part videos of several persons into a track for each."""
    persons: dict[str, set] = {}
    for sample in samples:
        persons.setdefault(sample['video_id'], set()).add(sample['track_id'])
    for sample in samples:
        if len(persons[sample['video_id']]) > 1:
            sample['video_id'] += f'#{sample["track_id"]}'
    places = Counter((s['video_id'], s['frame_id']) for s in samples)
    (video, frame), count = places.most_common(1)[0]
    if count > 1:
        raise InputError(
            f'{source}: expected track_id to tell persons apart, got frame '
            f'{frame} of {video} {count} times; add track_id to the '
            'annotations'
        )
