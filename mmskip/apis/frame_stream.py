"""One model, and the streams of the cameras that take turns on it."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmskip.core import MacCount, count_macs
from mmskip.engine.video_hook import is_converted
from mmskip.skip_conv import StreamPolicy, StreamState, streams
from mmskip.video import Frame, FrameResult, Tracker
from mmskip.video.regions import Region, RegionHolder
from mmskip.visualization import InputMap, computed_pixels, mirrored_sites

from .errors import UserError

#: Pixels of a frame a side per value of its computed_mask.
MASK_STRIDE = 4
#: What tells frames apart, and nothing else.
NAMES_OF_FRAMES = ('img_id', 'frame_id', 'video_id', 'img_path')


class FramePipeline:
    """The config's own test pipeline, built once, for frames in memory.

    Detectors see the whole frame. Top-down pose estimators see one box that
    stays where it is over the whole stream, because a Skip-Convolution
    compares each crop with the one before.

    Args:
        model: A detector or pose estimator from :func:`init_model`.
        bbox: The box of a pose estimator, (x1, y1, x2, y2) in pixels of the
            first frame; ``None`` takes the whole frame. It follows when the
            size of the frames changes.

    Raises:
        ValueError: The model has no ``cfg``.
        UserError: The model takes clips instead of frames, the config has
            no test pipeline, or ``bbox`` is empty or given to a detector;
            at the first frame, one that is not within it.
    """

    def __init__(
        self, model: nn.Module, bbox: Sequence[float] | None = None
    ) -> None:
        cfg = getattr(model, 'cfg', None)
        if cfg is None:
            raise ValueError(
                f'expected a model with its config as `cfg`, got a bare '
                f'{type(model).__name__}; build it with '
                'mmskip.apis.init_model()'
            )
        self._scope = cfg.get('default_scope') or 'mmengine'
        if self._scope == 'mmaction':
            raise UserError(
                'expected a detector or a pose estimator, got a model of '
                'mmaction, which takes clips instead of frames'
            )
        self.is_pose = self._scope == 'mmpose'
        self._bbox = self._check_bbox(bbox)
        self._meta = dict(model.dataset_meta or {}) if self.is_pose else {}
        self._first_shape: tuple[int, int] | None = None
        self._last_shape: tuple[int, int] | None = None
        self._videos = 0
        with DefaultScope.overwrite_default_scope(self._scope):
            self._transform = Compose(_frame_transforms(cfg, self.is_pose))

    def __call__(
        self,
        image: np.ndarray,
        index: int = 0,
        bbox: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Prepare a frame.

        Args:
            image: (H, W, 3) uint8, BGR.
            index: Number of the frame, becomes ``img_id``.
            bbox: Box of a pose estimator in this frame, instead of that of
                the whole stream.

        Returns:
            ``inputs`` and ``data_samples``, lists of length one. The sample
            carries ``frame_id`` and ``video_id``, which counts changes of
            the frame's size.
        """
        self._follow(image.shape[:2])
        data: dict[str, Any] = dict(img=image, img_id=index)
        if self.is_pose:
            data.update(self._meta)
            data['bbox'] = self._box_of(image)
            if bbox is not None:
                data['bbox'] = np.asarray(bbox, np.float32)[None]
            data['bbox_score'] = np.ones(1, dtype=np.float32)
        packed = self._transform(data)
        packed['data_samples'].set_metainfo(
            dict(frame_id=index, video_id=self._videos)
        )
        return pseudo_collate([packed])

    def _follow(self, shape: tuple[int, int]) -> None:
        if self._first_shape is None:
            self._first_shape = shape
        elif shape != self._last_shape:
            self._videos += 1
        self._last_shape = shape

    def _check_bbox(self, bbox: Sequence[float] | None) -> np.ndarray | None:
        if bbox is None:
            return None
        if not self.is_pose:
            raise UserError(
                'a bbox is for top-down pose estimators; a detector takes '
                'the whole frame'
            )
        box = np.asarray(bbox, dtype=np.float32)
        if box.shape != (4,) or not (box[2:] > box[:2]).all():
            raise UserError(
                f'expected a bbox x1 y1 x2 y2 with x1 < x2 and y1 < y2, got '
                f'{" ".join(map(str, bbox))}'
            )
        return box

    def _box_of(self, image: np.ndarray) -> np.ndarray:
        """Scale the (1, 4) box along with the frame since the first one."""
        height, width = image.shape[:2]
        if self._bbox is None:
            return np.array([[0, 0, width, height]], dtype=np.float32)
        first_height, first_width = self._first_shape
        end = first_width, first_height
        if (self._bbox[:2] < 0).any() or (self._bbox[2:] > end).any():
            raise UserError(
                f'expected a bbox within the frame of {first_width} x '
                f'{first_height}, got {" ".join(f"{x:g}" for x in self._bbox)}'
            )
        scale_x, scale_y = width / first_width, height / first_height
        scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        return (self._bbox * scale)[None]


class ClipPipeline:
    """The config's own test pipeline for clips of a recognizer, built once.

    It samples from images in memory what it would sample from a file.

    Args:
        model: A recognizer from :func:`init_model`, whose ``VideoHook`` says
            that frames of a clip follow one another.

    Attributes:
        num_frames: Frames of a clip.

    Raises:
        UserError: The config has no such hook, or no test pipeline.
    """

    def __init__(self, model: nn.Module) -> None:
        hooks = [
            hook
            for hook in model.cfg.get('custom_hooks') or ()
            if hook.get('inference') == 'clip'
        ]
        if not hooks:
            raise UserError(
                "expected custom_hooks=[dict(type='mmskip.VideoHook', "
                "num_frames=T, inference='clip')] in the config of a "
                'recognizer, got none; see configs/skip_conv/recognition'
            )
        self.num_frames = hooks[0].num_frames
        with DefaultScope.overwrite_default_scope('mmaction'):
            self._transform = Compose(_clip_transforms(model.cfg))

    def __call__(self, images: Sequence[np.ndarray]) -> dict[str, Any]:
        """Prepare a clip.

        Args:
            images: Consecutive frames (H, W, 3) uint8, BGR.

        Returns:
            ``inputs`` and ``data_samples``, lists of length one.

        Raises:
            UserError: It has not as many frames as the hook says.
        """
        packed = self._transform(
            dict(
                array=[image[..., ::-1].copy() for image in images],
                total_frames=len(images),
                start_index=0,
                modality='RGB',
            )
        )
        found = len(packed['inputs'])
        if found != self.num_frames:
            raise UserError(
                f'expected a test pipeline that gives {self.num_frames} '
                f"frames, the VideoHook's num_frames, got {found}"
            )
        return pseudo_collate([packed])


class SharedModel:
    """A model that several streams take turns on; use it as a context.

    Do not use the model otherwise meanwhile. For parallel threads, give each
    a copy of the model.

    Args:
        model: A detector or top-down pose estimator in eval mode. One
            without converted layers runs densely.
        dense: Run a converted model as the dense one.
    """

    def __init__(self, model: nn.Module, dense: bool = False) -> None:
        self.model = model
        self.skips = not dense and is_converted(model)
        self._open = ExitStack()
        self._switch: Callable[[StreamState], None] | None = None
        self._before = MacCount(0, 0, 0, 0)

    def __enter__(self) -> 'SharedModel':
        with ExitStack() as stack:
            if self.skips:
                self._switch = stack.enter_context(streams(self.model))
            self._macs = stack.enter_context(count_macs(self.model))
            self._heads = stack.enter_context(RepeatedHeads(self.model))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def run(
        self,
        data: Mapping[str, Any],
        state: StreamState | None,
        memory: dict,
    ) -> tuple[BaseDataElement, MacCount]:
        """Run the model on a prepared frame of a stream.

        Args:
            data: See :class:`FramePipeline`.
            state: State of the stream; None runs densely.
            memory: Keeps what the heads found in the stream's last frame.

        Returns:
            The prediction, on the CPU, and its MACs.
        """
        if state is not None:
            self._switch(state)
        self._heads.memory = memory
        # Not around the loop: it would hold in the caller's code, too.
        with torch.no_grad():
            prediction = self.model.test_step(data)[0].cpu()
        after = self._macs.total()
        pairs = zip(after, self._before, strict=True)
        cost = MacCount(*(a - b for a, b in pairs))
        self._before = after
        return prediction, cost


class RepeatedHeads:
    """Lets a head give its last result again where nothing changed.

    Decoding boxes and suppressing doubles takes as long as the network does
    for a static frame. What a head makes of equal tensors is equal, so it is
    given again; use it as a context around the model.

    Args:
        model: A model of mmdet or mmpose.

    Attributes:
        memory: Keeps the last tensors and results of each head, for the
            stream whose turn it is.
    """

    #: Attribute of the model -> method of it that is a function of tensors.
    METHODS = (
        ('bbox_head', 'predict_by_feat'),
        ('rpn_head', 'predict_by_feat'),
        ('roi_head', 'predict'),
        ('head', 'decode'),
    )

    def __init__(self, model: nn.Module) -> None:
        self.memory: dict[str, tuple[list, Any]] = {}
        self._found = [
            (name, getattr(model, name), method)
            for name, method in self.METHODS
            if hasattr(getattr(model, name, None), method)
        ]

    def __enter__(self) -> 'RepeatedHeads':
        for name, head, method in self._found:
            run = getattr(head, method)
            setattr(head, method, partial(self._repeat, name, run))
        return self

    def __exit__(self, *_: Any) -> None:
        for _, head, method in self._found:
            delattr(head, method)

    def _repeat(self, name: str, run: Callable, *args: Any, **kwargs: Any):
        given = list(_leaves((args, kwargs)))
        known = self.memory.get(name)
        if known is None or not _are_equal(known[0], given):
            # Not what the head may write into.
            self.memory[name] = given, copy.deepcopy(run(*args, **kwargs))
        return copy.deepcopy(self.memory[name][1])


class FrameStream:
    """The stream of one camera on a shared model.

    Args:
        shared: The model, inside its context.
        bbox: For pose estimators, see :class:`FramePipeline`.
        with_mask: Work out ``computed_mask``.
        policy: When the stream restarts by itself; None for never.
        region: What is watched, for detectors; None for everything.
        tracker: Gives the boxes of a detector their ids.
        classes: Names of the objects to find, for detectors; None for all.

    Raises:
        UserError: The model finds no objects of such a class.

    Attributes:
        model: The model.
        state: Memory of the stream; None if the model runs densely.
    """

    def __init__(
        self,
        shared: SharedModel,
        bbox: Sequence[float] | None = None,
        with_mask: bool = True,
        policy: StreamPolicy | None = None,
        region: Region | None = None,
        tracker: Tracker | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.model = shared.model
        self.state: StreamState | None = None
        self._shared = shared
        self._pipeline = FramePipeline(shared.model, bbox)
        if self._pipeline.is_pose and region is not None:
            raise UserError(
                'a region is for detectors; a pose estimator looks at its '
                'bbox only'
            )
        self._with_mask = with_mask
        self._policy = policy
        self._region = region
        self._holder = None if region is None else RegionHolder(region)
        self._tracker = tracker
        self._labels = None if classes is None else self._labels_of(classes)
        self._shape: tuple[int, int] | None = None
        self._heads: dict = {}

    def _labels_of(self, classes: Sequence[str]) -> Tensor:
        known = (self.model.dataset_meta or {}).get('classes') or ()
        if self._pipeline.is_pose:
            raise UserError('classes are for detectors, got a pose estimator')
        unknown = [name for name in classes if name not in known]
        if unknown:
            raise UserError(
                f'expected classes of the model, got {", ".join(unknown)}; it '
                f'knows {", ".join(known) or "none by name"}'
            )
        return torch.tensor([known.index(name) for name in classes])

    @property
    def nbytes(self) -> int:
        """Bytes of the stream's memory."""
        return 0 if self.state is None else self.state.nbytes

    def prepare(self, frame: Frame) -> tuple[Frame, dict[str, Any], float]:
        """Prepare a frame, which may be done ahead in another thread.

        Returns:
            The frame, what the model takes, and the seconds it took.
        """
        start = time.perf_counter()
        data = self._pipeline(frame.image, frame.index)
        return frame, data, time.perf_counter() - start

    def __call__(self, frame: Frame) -> FrameResult:
        """Prepare a frame and run the model on it."""
        return self.run(*self.prepare(frame))

    def run(
        self, frame: Frame, data: dict[str, Any], seconds: float
    ) -> FrameResult:
        """Run the model on a prepared frame, see :meth:`prepare`."""
        start = time.perf_counter()
        shape = frame.image.shape[:2]
        reason = self._begin(frame, shape)
        if self._holder is not None:
            self._hold(data, shape)
        prediction, cost = self._shared.run(data, self.state, self._heads)
        if self.state is not None and self.state.restart is not None:
            reason = reason or self.state.restart
            if self._holder is not None and reason != 'first':
                self._holder.renew()
        if self._labels is not None:
            found = prediction.pred_instances
            kept = torch.isin(found.labels, self._labels)
            prediction.pred_instances = found[kept]
        if self._region is not None:
            prediction = self._region.keep(prediction, shape)
        if self._tracker is not None:
            prediction = self._tracker.update(prediction, frame.index)
        seconds += time.perf_counter() - start
        return FrameResult(
            frame.index,
            frame.image,
            prediction,
            cost,
            self._computed_mask(prediction, shape),
            seconds,
            frame.time,
            reason,
        )

    def _begin(self, frame: Frame, shape: tuple[int, int]) -> str | None:
        """Start anew where the picture is not the continuation."""
        if not self._shared.skips:
            if frame.restarts or shape != self._shape:
                self._lose_track()
            self._shape = shape
            return None
        if self.state is None:
            self._shape = shape
            policy = self._policy
            if policy is not None and self._region is not None:
                policy = replace(policy, area=self._region.share(shape))
            self.state = StreamState(policy)
            return 'first'
        reason = None
        if frame.restarts:
            reason = 'reconnect'
        elif shape != self._shape:
            reason = 'size'
        if reason is not None:
            self.state.reset()
            self._lose_track()
        self._shape = shape
        return reason

    def _lose_track(self) -> None:
        """Keep nothing of what was where in the picture before."""
        if self._holder is not None:
            self._holder.renew()
        if self._tracker is not None:
            self._tracker.reset()

    def _hold(self, data: dict[str, Any], shape: tuple[int, int]) -> None:
        inputs = data['inputs'][0]
        meta = data['data_samples'][0].metainfo
        where = InputMap.from_metainfo(
            {**meta, 'batch_input_shape': tuple(inputs.shape[1:])}, shape
        )
        self._holder.hold(inputs, where, shape)

    def _computed_mask(
        self, prediction: BaseDataElement, shape: tuple[int, int]
    ) -> np.ndarray | None:
        if self.state is None or not self._with_mask:
            return None
        masks = self.state.last_masks()
        # Of the hosts' models only mmpose's have a flip test of this name.
        options = getattr(self._shared.model, 'test_cfg', None) or {}
        flips = options.get('flip_test', False)
        return computed_pixels(
            masks,
            InputMap.from_metainfo(prediction.metainfo, shape),
            shape,
            mirrored_sites(masks) if flips else (),
            stride=MASK_STRIDE,
        )


def _clip_transforms(cfg: Config) -> list[ConfigDict]:
    """Return the test pipeline for clips; mmaction2 reads images, too."""
    transforms = []
    for step in _test_pipeline(cfg):
        if step['type'].endswith('Init'):
            continue
        if step['type'].endswith('Decode'):
            step = ConfigDict(type='ArrayDecode')
        transforms.append(step)
    return transforms


def _frame_transforms(cfg: Config, is_pose: bool) -> list[ConfigDict]:
    """Return the test pipeline for frames, without annotations.

    mmpose's ``LoadImage`` takes a frame as it is; mmdet has a loader of its
    own for that.
    """
    transforms = []
    for step in _test_pipeline(cfg):
        name = step['type']
        name = name if isinstance(name, str) else name.__name__
        name = name.rpartition('.')[2]
        if not is_pose and name == 'LoadImageFromFile':
            step = ConfigDict(
                type='mmdet.LoadImageFromNDArray',
                to_float32=step.get('to_float32', False),
            )
        elif name.startswith('Load') and 'Annotation' in name:
            continue
        transforms.append(step)
    return transforms


def _test_pipeline(cfg: Config) -> Sequence[ConfigDict]:
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    while dataset and 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    if not dataset or not dataset.get('pipeline'):
        raise UserError(
            'the config has no test_dataloader.dataset.pipeline, which says '
            'how to prepare a frame'
        )
    return dataset['pipeline']


def _leaves(tree: Any) -> Iterator[Any]:
    """List what a head is given: tensors, arrays, and what describes them."""
    if isinstance(tree, BaseDataElement):
        meta = tree.metainfo
        for key in sorted(meta.keys() - set(NAMES_OF_FRAMES)):
            yield key
            yield from _leaves(meta[key])
        for key, value in tree.items():
            yield key
            yield from _leaves(value)
    elif isinstance(tree, Mapping):
        for key in sorted(tree.keys() - set(NAMES_OF_FRAMES), key=str):
            yield key
            yield from _leaves(tree[key])
    elif isinstance(tree, (list, tuple)):
        yield len(tree)
        for item in tree:
            yield from _leaves(item)
    else:
        yield tree


def _are_equal(ours: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(ours) == len(others) and all(
        _is_equal(one, other) for one, other in zip(ours, others, strict=True)
    )


def _is_equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return bool(one is other or one == other)
