"""UA-DETRAC, read from the files of the original release."""

import os.path as osp
import warnings
from collections.abc import Mapping, Sequence

from mmdet.datasets import BaseDetDataset

from mmskip.reading import InputError, excerpt
from mmskip.registry import DATASETS

from .ua_detrac_release import (
    CLASS_OF_TYPE,
    SequenceAnnotation,
    Target,
    clip_box,
    find_sequences,
    list_frames,
    read_image_size,
    read_sequence,
)

PALETTE = ((0, 153, 255), (255, 153, 0), (204, 51, 102), (51, 204, 102))


@DATASETS.register_module()
class UADETRACDataset(BaseDetDataset):
    """UA-DETRAC as it lies on disk, every image a sample, no conversion.

    Both packings of the images (``Insight-MVT_Annotation_Train/MVI_20011/``
    and ``DETRAC-Images/DETRAC-Images/MVI_20011/``) and both editions of the
    annotations (``DETRAC-Train-Annotations-XML/MVI_20011.xml`` and
    ``DETRAC-Train-Annotations-XML-v3/MVI_20011_v3.xml``) are found under
    ``data_root``. Other folders can be given as ``ann_file`` (the folder of
    the XML files) and ``data_prefix=dict(img=...)``.

    Samples are the images, sequence by sequence and frame by frame: an image
    without a ``<frame>`` element is a sample without vehicles. Besides the
    keys of every detection dataset a sample has ``video_id`` (name of the
    sequence) and ``frame_id`` (index of the frame in its sequence, from 0;
    with ``frame_stride`` 4 it runs 0, 4, 8, ...).

    Ignored regions become instances with ``ignore_flag=1``, one per class
    because COCO evaluation looks at one class at a time. With
    ``CocoMetric(ann_file=None)`` they are crowd boxes: a detection whose
    share inside the region reaches the IoU threshold counts neither as hit
    nor as false alarm. In training, anchor assigners leave them out only
    with ``ignore_iof_thr`` above 0 (0.5, say); mmdet's RetinaNet has -1.

    Args:
        data_root: Folder of the release. Defaults to ''.
        split: 'train' (60 sequences) or 'test' (40). Defaults to 'train'.
        sequences: Names of the sequences to use. None means all.
        frame_stride: Use every n-th frame of each sequence, beginning with
            its first. Defaults to 1.
        single_class: Treat all types as 'vehicle'. Defaults to False.
        metainfo: Meta information; ``classes`` may be a selection of car, van,
            bus and others (vehicles of other classes are then left out), or
            another name for the single class. Defaults to None.
        filter_cfg: Filters as in mmdet's ``CocoDataset``: ``filter_empty_gt``
            and ``min_size``; applied in training only. Defaults to None.
        **kwargs: Arguments of :class:`mmdet.datasets.BaseDetDataset`.

    Raises:
        ValueError: An argument is wrong, or an annotation file is malformed
            or disagrees with the images.
        FileNotFoundError: Images or annotations are missing.
    """

    METAINFO = {  # noqa: RUF012 (mmengine's protocol)
        'classes': ('car', 'van', 'bus', 'others'),
        'palette': [*PALETTE],
    }

    def __init__(
        self,
        data_root: str = '',
        split: str = 'train',
        sequences: Sequence[str] | None = None,
        frame_stride: int = 1,
        single_class: bool = False,
        metainfo: Mapping | None = None,
        filter_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        if split not in ('train', 'test'):
            raise ValueError(
                f"expected split 'train' or 'test', got {split!r}"
            )
        if not isinstance(frame_stride, int) or frame_stride < 1:
            raise ValueError(
                f'expected frame_stride 1, 2, ..., got {frame_stride!r}'
            )
        unknown = set(filter_cfg or ()) - {'filter_empty_gt', 'min_size'}
        if unknown:
            raise ValueError(
                "expected filter_cfg with 'filter_empty_gt' and 'min_size', "
                f'got also {sorted(unknown)}'
            )
        self.split = split
        self.sequences = None if sequences is None else sorted(set(sequences))
        self.frame_stride = frame_stride
        self.single_class = single_class
        super().__init__(
            data_root=data_root,
            metainfo=self._check_classes(single_class, metainfo),
            filter_cfg=filter_cfg,
            **kwargs,
        )

    @classmethod
    def _check_classes(
        cls, single_class: bool, metainfo: Mapping | None
    ) -> dict:
        """Complete ``metainfo`` for one class, or check the selection."""
        metainfo = dict(metainfo or {})
        classes = metainfo.get('classes')
        if isinstance(classes, str):
            raise ValueError(
                'expected metainfo classes to be a tuple of names, got the '
                f'string {classes!r}; write ({classes!r},)'
            )
        if single_class:
            metainfo.setdefault('classes', ('vehicle',))
            metainfo.setdefault('palette', [PALETTE[0]])
            if len(metainfo['classes']) != 1:
                raise ValueError(
                    'expected one class name with single_class=True, got '
                    f'{tuple(metainfo["classes"])}'
                )
            return metainfo
        unknown = sorted(set(classes or ()) - set(cls.METAINFO['classes']))
        if unknown:
            raise ValueError(
                f'expected metainfo classes among {cls.METAINFO["classes"]}, '
                f'got also {unknown}; for one class of your own name pass '
                'single_class=True'
            )
        return metainfo

    def load_data_list(self) -> list[dict]:
        """Read all sequences.

        Returns:
            One dict per image, with ``img_path``, ``img_id``, ``height``,
            ``width``, ``video_id``, ``frame_id`` and ``instances``.
        """
        data_list = [
            info
            for sequence in find_sequences(
                self.data_root,
                self.split,
                self.sequences,
                self.data_prefix.get('img'),
                self.ann_file,
            )
            for info in self._load_sequence(*sequence)
        ]
        for img_id, info in enumerate(data_list):
            info['img_id'] = img_id
        return data_list

    def _load_sequence(
        self, name: str, image_folder: str, xml_path: str
    ) -> list[dict]:
        """Read one sequence; see :meth:`load_data_list`."""
        annotation = read_sequence(xml_path)
        frames = list_frames(image_folder)
        _check_sequence(name, annotation, image_folder, len(frames), xml_path)
        width, height = read_image_size(frames[0])
        _warn_of_outsiders(annotation, (width, height), xml_path)
        return [
            dict(
                img_path=frames[frame_id],
                height=height,
                width=width,
                video_id=name,
                frame_id=frame_id,
                instances=self._make_instances(
                    annotation, frame_id, (width, height), xml_path
                ),
            )
            for frame_id in range(0, len(frames), self.frame_stride)
        ]

    def _make_instances(
        self,
        annotation: SequenceAnnotation,
        frame_id: int,
        size: tuple[int, int],
        xml_path: str,
    ) -> list[dict]:
        """List the vehicles and the ignored regions of a frame.

        Args:
            annotation: Annotation of the sequence.
            frame_id: Index of the frame, from 0.
            size: ``(width, height)`` of the image, in pixels.
            xml_path: The annotation file, for messages.

        Returns:
            Instances as in mmdet, vehicles with ``instance_id``, the number
            of their track.
        """
        instances = []
        for target in annotation.frames.get(frame_id, ()):
            label = self._label_of(target, xml_path)
            box = clip_box(target.box, size)
            if box is not None and label is not None:
                instances.append(
                    dict(
                        bbox=box,
                        bbox_label=label,
                        ignore_flag=0,
                        instance_id=target.track_id,
                    )
                )
        boxes = (
            clip_box(region, size) for region in annotation.ignored_regions
        )
        instances += [
            dict(bbox=list(box), bbox_label=label, ignore_flag=1)
            for box in boxes
            if box is not None
            for label in range(len(self._metainfo['classes']))
        ]
        return instances

    def _label_of(self, target: Target, xml_path: str) -> int | None:
        """Label of a vehicle; None if its class was not selected."""
        if self.single_class:
            return 0
        name = CLASS_OF_TYPE.get(target.vehicle_type)
        if name is None:
            raise InputError(
                f'{xml_path}: target {target.track_id}: expected a '
                f'vehicle_type among {sorted(CLASS_OF_TYPE)}, got '
                f'{excerpt(target.vehicle_type)}; with single_class=True '
                'every type is accepted'
            )
        classes = self._metainfo['classes']
        return classes.index(name) if name in classes else None

    def filter_data(self) -> list[dict]:
        """Leave out what ``filter_cfg`` says, in training."""
        options = self.filter_cfg or {}
        if self.test_mode or not options:
            return self.data_list
        smallest = options.get('min_size', 0)
        least = 1 if options.get('filter_empty_gt', False) else 0
        return [
            info
            for info in self.data_list
            if min(info['width'], info['height']) >= smallest
            and sum(not i['ignore_flag'] for i in info['instances']) >= least
        ]

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the labels of a sample's vehicles, but ignored regions."""
        return [
            instance['bbox_label']
            for instance in self.get_data_info(idx)['instances']
            if not instance['ignore_flag']
        ]


def _warn_of_outsiders(
    annotation: SequenceAnnotation, size: tuple[int, int], xml_path: str
) -> None:
    """Count the targets that :func:`clip_box` leaves nothing of."""
    outside = [
        (frame_id + 1, target.track_id)
        for frame_id, targets in annotation.frames.items()
        for target in targets
        if clip_box(target.box, size) is None
    ]
    if outside:
        frame, track = outside[0]
        warnings.warn(
            f'{xml_path}: {len(outside)} targets lie outside of the image of '
            f'{size[0]}x{size[1]} pixels and are left out, the first of them '
            f'target {track} of frame {frame}',
            stacklevel=2,
        )


def _check_sequence(
    name: str,
    annotation: SequenceAnnotation,
    image_folder: str,
    num_images: int,
    xml_path: str,
) -> None:
    """Refuse an annotation that does not belong to its images."""
    if annotation.name not in ('', name):
        raise InputError(
            f'{xml_path}: expected the annotation of {name}, got that of '
            f'{excerpt(annotation.name)}'
        )
    last = max(annotation.frames, default=-1) + 1
    if last > num_images:
        missing = osp.join(image_folder, f'img{num_images + 1:05d}.jpg')
        raise FileNotFoundError(
            f'{missing}: expected this image, because {xml_path} annotates '
            f'frames up to {last}; extract the sequence again'
        )
    if not any(annotation.frames.values()):
        warnings.warn(
            f'{xml_path}: no vehicle is annotated in any of the {num_images} '
            'frames; all count as frames without vehicles',
            stacklevel=2,
        )
