"""The hook that runs models over videos and clips in mmengine's loops.

:class:`VideoOrder` tells from the order of a loader's samples where new
streams begin, and whether they may.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import Any

from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn
from torch.utils.data import BatchSampler, RandomSampler

from mmskip.baselines.keyframe import KeyFrames
from mmskip.core import LedgerReader, SelfCounting, count_macs
from mmskip.core.convert import check_gates
from mmskip.datasets import VideoOrderSampler
from mmskip.datasets.videos import (
    FOLDER,
    OTHER_KEYS,
    Alone,
    describe_keys,
    find_jump,
    find_position,
    find_video,
    group_frames,
    natural_key,
)
from mmskip.plan.record import StreamForward
from mmskip.reading import InputError
from mmskip.registry import HOOKS
from mmskip.skip_conv import StreamBinding, StreamPolicy, StreamState, clip

INFERENCE_MODES = ('stream', 'clip')
FRAME = 'frame_id'
SAMPLER = "sampler=dict(type='mmskip.VideoOrderSampler')"


def check_frames(data_batch: Any) -> None:
    """Refuse images with NaN or infinite pixels.

    In a stream such a pixel would outlive its frame: with
    ``memory='previous'`` until the next reference frame. Images of integers,
    as the stock pipelines give them, cost nothing; others are read once.

    Args:
        data_batch: A batch as the stock loaders collate it.

    Raises:
        InputError: Names the image.
    """
    for index, (image, sample) in enumerate(_images(data_batch)):
        if image.is_floating_point() and not image.isfinite().all():
            meta = getattr(sample, 'metainfo', {})
            name = meta.get('img_path', f'image {index} of the batch')
            bad = int((~image.isfinite()).sum())
            raise InputError(
                f'expected finite pixels, got {bad} NaN or infinite values in '
                f'{name}; mend or leave out the file, or look for a division '
                'by zero in the pipeline'
            )


def check_losses(losses: Any, iteration: int) -> None:
    """Refuse a loss that is NaN or infinite.

    Args:
        losses: What ``train_step`` returned; only a dict with a tensor
            ``loss`` is looked at.
        iteration: Iteration of the training, from 1.

    Raises:
        InputError: Names the losses.
    """
    if not isinstance(losses, Mapping):
        return
    total = losses.get('loss')
    if not isinstance(total, Tensor) or total.isfinite().all():
        return
    bad = [
        f'{name}={value.item()}'
        for name, value in losses.items()
        if isinstance(value, Tensor) and not value.isfinite().all()
    ]
    raise InputError(
        f'expected finite losses, got {", ".join(bad)} in iteration '
        f'{iteration}; lower the learning rate, set optim_wrapper.clip_grad, '
        'or look at the annotations of the batch. The weights are spoilt: '
        'go on from the last checkpoint'
    )


def _images(data_batch: Any) -> Iterator[tuple[Tensor, Any]]:
    """Yield images and their data samples, of any stock collate function."""
    if isinstance(data_batch, Mapping):
        images = data_batch.get('inputs', ())
        samples = data_batch.get('data_samples') or [None] * len(images)
        pairs = zip(images, samples, strict=False)
    elif isinstance(data_batch, (list, tuple)):
        items = [item for item in data_batch if isinstance(item, Mapping)]
        pairs = ((i.get('inputs'), i.get('data_samples')) for i in items)
    else:
        return
    for image, sample in pairs:
        if isinstance(image, Tensor):
            yield image, sample


class VideoOrder:
    """Follows the samples of a val or test loader through their videos.

    A stream is right only where each frame follows the one before it in its
    video. Whether a loader gives frames so is known before the first of
    them, from its sampler and the annotations of its dataset; a loader that
    does not is refused. Of one that cannot be asked (a dataset without
    ``get_data_info``) the samples are all there is: where ``frame_id`` goes
    back the stream restarts, and how often is told at the end.

    Args:
        loader: The data loader.
        name: What messages call it, such as ``val_dataloader``.
        video_key: Key of a sample's video, or several keys, see
            :func:`mmskip.datasets.videos.find_video`. A sample without
            it is a video of its own.
        reset_interval: Frames after which a stream restarts even within a
            video; None for never.

    Raises:
        InputError: A video has two samples at one position.
    """

    def __init__(
        self,
        loader: Any,
        name: str,
        video_key: str | Sequence[str] = 'video_id',
        reset_interval: int | None = None,
    ) -> None:
        self.loader = loader
        self.name = name
        self.video_key = video_key
        self.reset_interval = reset_interval
        self._videos = self._group()
        self._forget()

    def start(self) -> None:
        """Begin to follow the loader anew, and look at its order.

        Raises:
            InputError: It does not give whole videos, frames in order.
        """
        self._forget()
        sampler = getattr(self.loader, 'sampler', None)
        if self._videos is None:
            if _mixes(sampler):
                raise self._refusal(f'{type(sampler).__name__} mixes them')
            return
        if all(len(members) == 1 for members in self._videos.values()):
            self._tell_of_single_images()
            return
        if (
            isinstance(sampler, VideoOrderSampler)
            and sampler.video_key != self.video_key
        ):
            raise InputError(
                f'{self.name}: expected the same video_key in '
                'mmskip.VideoHook and mmskip.VideoOrderSampler, got '
                f'{self.video_key!r} and {sampler.video_key!r}'
            )
        self._check(sampler)

    def follow(self, data_batch: Any) -> list[bool]:
        """Tell which samples of the next batch begin a new stream.

        Args:
            data_batch: A batch as stock loaders collate it: a dict with
                ``data_samples``, or a list of such dicts.

        Returns:
            For each sample, whether it does.

        Raises:
            InputError: A sample does not tell its video, but its annotation
                does.
        """
        begins = []
        for sample in _samples(data_batch):
            info = sample.metainfo
            video = find_video(info, self.video_key)
            position = find_position(info, self.video_key, FRAME)
            if video is None:
                self._check_untold(info)
            goes_on = video is not None and video == self._video
            if goes_on and _goes_back(self._position, position):
                self._jumps += 1
                goes_on = False
            elif not goes_on and self._videos is None:
                self._jumps += video in self._begun
                self._begun |= {video} - {None}
            begins.append(not goes_on or self._age == self.reset_interval)
            if begins[-1]:
                self._age = 0
            self._video, self._position = video, position
            self._age += 1
            self._seen += 1
        return begins

    def finish(self) -> None:
        """Tell how many frames did not follow the one before them."""
        if self._jumps:
            print_log(
                f'{self.name}: {self._jumps} of {self._seen} frames came '
                'after a later frame of their video, or after another video '
                'had come between; the stream restarted there, so that '
                'results and MACs are not those of the videos. Put '
                f'{SAMPLER} into {self.name}',
                'current',
                logging.WARNING,
            )
        if self._untold and self._videos is None:
            print_log(
                f'{self.name}: {self._untold} of {self._seen} samples did '
                f'not tell their video ({describe_keys(self.video_key)}): '
                'each was a reference frame. Add it to meta_keys of the '
                'transform that packs the inputs',
                'current',
                logging.WARNING,
            )

    def _forget(self) -> None:
        self._video: Any = None
        self._position: Any = None
        self._begun: set[Any] = set()
        self._age = self._seen = self._jumps = self._untold = 0

    def _group(self) -> dict[Any, list[int]] | None:
        """Group samples by video; None if the dataset cannot tell."""
        sampler = getattr(self.loader, 'sampler', None)
        if (
            isinstance(sampler, VideoOrderSampler)
            and sampler.video_key == self.video_key
        ):
            return sampler.videos
        dataset = getattr(self.loader, 'dataset', None)
        if not hasattr(dataset, 'get_data_info'):
            return None
        return group_frames(dataset, self.video_key, FRAME)

    def _check(self, sampler: Any) -> None:
        batches = self.loader.batch_sampler
        # Not through the batches, which may leave out the last one.
        plain = type(batches) is BatchSampler
        indices = list(sampler if plain else chain.from_iterable(batches))
        known = {i for members in self._videos.values() for i in members}
        if not known.issuperset(indices):
            return  # such as pairs of a video and a frame: a loader of videos
        jump = find_jump(indices, self._videos)
        if jump is None:
            return
        expected = f'frame {jump.frame} of {jump.video!r}'
        if jump.found is None:
            raise self._refusal(f'it ends before {expected}')
        video, frame = jump.found
        found = f'frame {frame} of {video!r}'
        raise self._refusal(f'{found} comes in the place of {expected}')

    def _refusal(self, what: str) -> InputError:
        return InputError(
            f'{self.name}: expected whole videos on each process, with their '
            f'frames in order, but {what} (frames from 0); put {SAMPLER} '
            f'into {self.name}'
        )

    def _tell_of_single_images(self) -> None:
        print_log(
            f'{self.name}: no two of the {len(self._videos)} samples are '
            f'frames of one video, as {describe_keys(self.video_key)} tells: '
            'each is a reference frame, and nothing is skipped. If the '
            'images of a folder are the frames of a video, set '
            f"video_key='{FOLDER}' in mmskip.VideoHook and in "
            'mmskip.VideoOrderSampler',
            'current',
            logging.WARNING,
        )

    def _check_untold(self, info: dict) -> None:
        self._untold += 1
        if self._videos is None or self._untold > 1:
            return
        told = [v for v in self._videos.values() if len(v) > 1]
        has_images = any(isinstance(video, Alone) for video in self._videos)
        if told and not has_images:
            keys = ', '.join(map(repr, OTHER_KEYS))
            raise InputError(
                f'{self.name}: expected {describe_keys(self.video_key)} (or '
                f'{keys}) in the meta info of the data samples, as the '
                f'annotations have it, got {sorted(info)}; add it to '
                'meta_keys of the transform that packs the inputs'
            )


@HOOKS.register_module()
class VideoHook(Hook):
    """Run a converted model over videos without a change to the loops.

    In training, every batch is B clips of ``num_frames`` frames. In val and
    test, the samples arrive in video order and form one stream, which
    restarts with a reference frame at each new video; a batch of several
    samples is several consecutive frames. A loader of another order is
    refused before the run, also for models with key frames: put
    ``sampler=dict(type='mmskip.VideoOrderSampler')`` into it. MACs are
    counted for ``mmskip.ComputeCost`` in the evaluator. On a model that is
    neither only the counting remains.

    Frames and training losses that are not finite stop the run (also with
    mixed precision: only scaled gradients may overflow), and so do
    checkpoints with learned gates that are not those of the model.

    Args:
        num_frames: Frames T of a clip. None: training is frame by frame,
            like those of the dense model.
        inference: ``stream``, or ``clip`` for models that take whole clips
            of ``num_frames`` frames (video recognisers).
        reset_interval: Frames after which a stream restarts even within a
            video. None: only at a new video.
        video_key: Key of the video's id in the annotations and in the
            samples' meta info, or several keys: ``'img_path'`` is the folder
            of an image, and with ``('img_path', 'raw_ann_info.track_id')``
            each person of a video is a stream, see
            :func:`mmskip.datasets.videos.find_video`. A sample that does
            not tell its video is one of its own, and a reference frame.
        policy: Settings of :class:`mmskip.StreamPolicy`, by which the stream
            also restarts within a video, at scene cuts and the like; needs
            batches of one frame. None: it does not.

    Raises:
        ValueError: An option is out of range.
    """

    # Before the hooks that look at an iteration's results.
    priority = 'ABOVE_NORMAL'

    def __init__(
        self,
        num_frames: int | None = None,
        inference: str = 'stream',
        reset_interval: int | None = None,
        video_key: str | Sequence[str] = 'video_id',
        policy: Mapping[str, Any] | None = None,
    ) -> None:
        if inference not in INFERENCE_MODES:
            raise ValueError(
                f'expected inference to be one of {INFERENCE_MODES}, got '
                f'{inference!r}'
            )
        if inference == 'clip' and num_frames is None:
            raise ValueError("inference='clip' needs num_frames")
        for name, value in (
            ('num_frames', num_frames),
            ('reset_interval', reset_interval),
        ):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(
                    f'expected {name} to be a positive int, got {value!r}'
                )
        self.num_frames = num_frames
        self.inference = inference
        self.reset_interval = reset_interval
        self.video_key = video_key
        self.policy = None if policy is None else StreamPolicy(**policy)
        self._open = ExitStack()
        self._stream: StreamBinding | None = None
        self._orders: dict[str, VideoOrder] = {}
        self._order: VideoOrder | None = None
        self._told_of_batches = False

    def before_run(self, runner: Runner) -> None:
        """Refuse an option of mmengine that runs past converted layers.

        Raises:
            ValueError: The config sets ``efficient_conv_bn_eval``.
        """
        option = 'efficient_conv_bn_eval'
        if runner.cfg.get(option) and is_converted(unwrap(runner.model)):
            raise ValueError(
                f'expected no {option} in the config of a converted model, '
                f'got {runner.cfg[option]!r}; it replaces convolutions by '
                'its own, which would never skip: remove it'
            )

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Compare the learned gates with those of the model.

        Raises:
            InputError: They are of another conversion, or a run is resumed
                that had none.
        """
        path = runner.cfg.get('load_from') or 'the checkpoint'
        weights = checkpoint.get('state_dict', checkpoint)
        if not check_gates(runner.model, weights, path):
            return
        if not isinstance(runner.optim_wrapper, OptimWrapper):  # no training
            print_log(untrained_gates(path), 'current', logging.WARNING)
        elif runner.cfg.get('resume'):
            raise InputError(
                f'expected the learned gates of the model in {path} to resume '
                'from, got none; begin with its weights instead: load_from '
                'in the config, without --resume'
            )

    def before_train(self, runner: Runner) -> None:
        """Look at the order of the val loader, before it is needed.

        Raises:
            InputError: See :meth:`VideoOrder.start`.
        """
        loop = runner.val_loop
        if loop is not None and self._needs_order(unwrap(runner.model)):
            self._order_of(loop, 'val_dataloader').start()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Open a clip around the iteration."""
        self._open.close()
        check_frames(data_batch)
        model = unwrap(runner.model)
        if self.num_frames is not None and is_converted(model):
            self._open.enter_context(clip(model, self.num_frames))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Close the clip."""
        self._open.close()
        check_losses(outputs, runner.iter + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        """Open a stream and a ledger."""
        self._start(runner.model, runner.val_loop, 'val_dataloader')

    def before_test_epoch(self, runner: Runner) -> None:
        """Open a stream and a ledger."""
        self._start(runner.model, runner.test_loop, 'test_dataloader')

    def before_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Restart the stream where a new video begins."""
        self._follow(data_batch)

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Restart the stream where a new video begins."""
        self._follow(data_batch)

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Close the stream and the ledger."""
        self._finish()

    def after_test_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Close the stream and the ledger."""
        self._finish()

    def _start(self, model: nn.Module, loop: BaseLoop, loader: str) -> None:
        self._open.close()
        model = unwrap(model)
        self._stream, self._order = None, None
        if self._needs_order(model):
            self._order = self._order_of(loop, loader)
            self._order.start()
        ledger = self._open.enter_context(count_macs(model))
        for metric in loop.evaluator.metrics:
            if isinstance(metric, LedgerReader):
                metric.ledger = ledger
        if not is_converted(model):
            return
        if self.inference == 'clip':
            self._open.enter_context(clip(model, self.num_frames))
        else:
            self._stream = StreamBinding(model, StreamState(self.policy))
            self._open.enter_context(self._stream)

    def _follow(self, data_batch: Any) -> None:
        check_frames(data_batch)
        if self._stream is None:
            return
        first, *others = self._order.follow(data_batch)
        if first:
            self._stream.state.reset()
        self._stream.num_frames = 1 + len(others)
        self._stream.restarts = frozenset(
            index for index, begins in enumerate(others, 1) if begins
        )
        if others and not self._told_of_batches:
            self._told_of_batches = True
            warn_of_batches(self._stream.model, self._order.name)

    def _finish(self) -> None:
        self._open.close()
        if self._stream is not None:
            self._order.finish()

    def _needs_order(self, model: nn.Module) -> bool:
        """Tell whether a model's results depend on the frames before."""
        streams = self.inference == 'stream' and is_converted(model)
        return streams or isinstance(model, KeyFrames)

    def _order_of(self, loop: BaseLoop, name: str) -> VideoOrder:
        """Return the order of a loop's loader, whose dataset is read once."""
        loader = getattr(loop, 'dataloader', None)
        order = self._orders.get(name)
        if order is None or order.loader is not loader:
            order = VideoOrder(
                loader, name, self.video_key, self.reset_interval
            )
            self._orders[name] = order
        return order


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside its distributed wrapper, if it has one."""
    return model.module if is_model_wrapper(model) else model


def is_converted(model: nn.Module) -> bool:
    """Tell whether a model has converted layers."""
    return any(isinstance(m, SelfCounting) for m in model.modules())


def untrained_gates(path: str) -> str:
    """Return a warning of dense weights in a model with learned gates."""
    return (
        f'{path} has none of the learned gates of the model: they are '
        'untrained, all open, and nothing will be skipped. Train them first '
        '(tools/train.py with load_from), or use the checkpoint of such a '
        'training'
    )


def warn_of_batches(model: nn.Module, loader: str) -> None:
    """Say that batches keep the plan of a model from running, if it has one.

    Args:
        model: The model.
        loader: Name of the data loader, which gives several frames at once.
    """
    if any(
        isinstance(vars(part).get('forward'), StreamForward)
        for part in model.modules()
    ):
        print_log(
            f'{loader} gives several frames at once, but a model with '
            'a plan is fast one frame at a time only; results '
            f'are the same. Set batch_size=1 in {loader}',
            'current',
            logging.WARNING,
        )


def _mixes(sampler: Any) -> bool:
    """Tell whether a sampler is known to give frames out of order."""
    if isinstance(sampler, DefaultSampler):
        return sampler.shuffle or sampler.world_size > 1
    return isinstance(sampler, RandomSampler)


def _goes_back(last: Any, position: Any) -> bool:
    if last is None or position is None:
        return False
    return natural_key(position) <= natural_key(last)


def _samples(data_batch: Any) -> Iterator[Any]:
    """Yield the data samples of a batch, as any stock loader collates it."""
    if isinstance(data_batch, dict):
        yield from data_batch['data_samples']
    else:
        yield from (item['data_samples'] for item in data_batch)
