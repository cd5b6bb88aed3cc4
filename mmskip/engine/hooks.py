"""Hooks that measure what videos and clips cost, and hooks for training.

Cost is time and MACs; training is about batch norms, layouts, seeds and the
stages of policies.
"""

import itertools
import math
import random
from contextlib import ExitStack
from time import perf_counter
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmskip.core import lay_kernels_last
from mmskip.datasets.clip_draws import derive_seed
from mmskip.reading import InputError
from mmskip.registry import HOOKS
from mmskip.sof_net import StopOrForwardHead
from mmskip.va_red2 import RoutingRecord, record_routing

from .video_hook import unwrap


class Stopwatch:
    """Measures one interval at a time, on the device's clock and the CPU's.

    Work that a GPU has yet to do is waited for at both ends.
    """

    def __init__(self) -> None:
        self._started: float | None = None

    def start(self) -> None:
        """Begin an interval."""
        _wait()
        self._started = perf_counter()

    def stop(self) -> float | None:
        """End the interval.

        Returns:
            Its seconds; None if none had begun.
        """
        if self._started is None:
            return None
        _wait()
        seconds = perf_counter() - self._started
        self._started = None
        return seconds


class StopwatchReader:
    """A metric that stops the watch which a hook starts."""

    stopwatch: Stopwatch | None = None


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@HOOKS.register_module()
class VideoTimerHook(Hook):
    """Time the model in val and test loops, for ``VideoCost``, ``ClipCost``.

    From the moment the batch is loaded until the predictions are there: the
    data preprocessor is included, loading and decoding are not.
    """

    # After all other hooks, whose work is not the model's.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._watch = Stopwatch()

    def before_val_epoch(self, runner: Runner) -> None:
        """Give the watch to the metrics."""
        self._hand_out(runner.val_loop.evaluator.metrics)

    def before_test_epoch(self, runner: Runner) -> None:
        """Give the watch to the metrics."""
        self._hand_out(runner.test_loop.evaluator.metrics)

    def before_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Start the watch."""
        self._watch.start()

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Start the watch."""
        self._watch.start()

    def _hand_out(self, metrics: list) -> None:
        for metric in metrics:
            if isinstance(metric, StopwatchReader):
                metric.stopwatch = self._watch


@HOOKS.register_module()
class ClipCostHook(Hook):
    """Write ``clip_macs`` to the data samples of val and test loops.

    A LongTensor (views,): MACs of the whole model for each view (clip and
    crop) of a video that its classifier sees, gates and cheap maps included;
    ``mmskip.ClipCost`` reads it. A plain model is counted, too.
    ``clip_dense_macs`` is the same for a model that computes everything.

    The loops hand samples to the metrics before any hook sees them, so they
    are written when the model's forward returns them.
    """

    # Opened before the clock of VideoTimerHook starts.
    priority = 'ABOVE_NORMAL'

    def __init__(self) -> None:
        self._open = ExitStack()

    def before_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Start to record."""
        self._start(unwrap(runner.model))

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Start to record."""
        self._start(unwrap(runner.model))

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Leave the model as it was."""
        self._open.close()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Leave the model as it was."""
        self._open.close()

    def _start(self, model: nn.Module) -> None:
        self._open.close()  # an iteration that failed
        record = self._open.enter_context(record_routing(model))

        # Registered after those of the record, which ends a forward first.
        def write(module: nn.Module, inputs: tuple, output: Any) -> None:
            write_costs(record, output)

        handle = model.register_forward_hook(write)
        self._open.callback(handle.remove)


def write_costs(record: RoutingRecord, samples: Any) -> None:
    """Give each data sample of a forward what its views cost.

    Raises:
        InputError: The views of the samples cannot be told apart.
    """
    if not isinstance(samples, (list, tuple)) or not samples:
        return
    macs = record.sample_macs()
    if not len(macs) or len(macs) % len(samples):
        raise InputError(
            'expected a classifier that sees the same number of views of '
            f'each of {len(samples)} videos for ClipCostHook, got '
            f'{len(macs)} views; give all samples of a batch as many clips'
        )
    shape = (len(samples), -1)
    dense = record.sample_dense_macs().view(shape)
    for index, sample in enumerate(samples):
        sample.clip_macs = macs.view(shape)[index]
        sample.clip_dense_macs = dense[index]


@HOOKS.register_module()
class BatchNormHook(Hook):
    """Estimate the statistics of batch norms anew at the end of epochs.

    With gates that are drawn in training and deterministic in inference,
    running averages of training are of another distribution. Skip-Conv (CVPR
    2021), section 4.2, estimates those of L0-pruned models "during test on a
    large batch of images"; here it is some batches of the training set, when
    a training epoch has ended, so that checkpoints hold the result. The
    average over the batches takes the place of the running averages.

    Frozen batch norms (in eval mode) are left alone. Training goes on as
    without this hook, but for the random numbers that loading draws.

    Args:
        num_batches: Batches of each process.

    Raises:
        ValueError: ``num_batches`` is not positive.
    """

    # Before the checkpoint is saved.
    priority = 'LOW'

    def __init__(self, num_batches: int = 16) -> None:
        if num_batches < 1:
            raise ValueError(f'expected num_batches >= 1, got {num_batches!r}')
        self.num_batches = num_batches

    def after_train_epoch(self, runner: Runner) -> None:
        """Run the model on batches of which only batch norms learn."""
        model = unwrap(runner.model)
        norms = [
            module
            for module in model.modules()
            if isinstance(module, _BatchNorm)
            and module.training
            and module.track_running_stats
        ]
        if not norms:
            return
        training = {module: module.training for module in model.modules()}
        momenta = [norm.momentum for norm in norms]
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
            norm.train()
        try:
            self._run(model, runner)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            for module, mode in training.items():
                module.training = mode
        for norm in norms:
            all_reduce(norm.running_mean, 'mean')
            all_reduce(norm.running_var, 'mean')

    @torch.no_grad()
    def _run(self, model: nn.Module, runner: Runner) -> None:
        batches = iter(runner.train_dataloader)
        for batch in itertools.islice(batches, self.num_batches):
            data = model.data_preprocessor(batch, True)
            model(**data, mode='tensor')


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keep the kernels of 2-D convolutions channels last.

    Activations follow the kernels. On a CPU with oneDNN that is faster, in
    training and in inference, most of all for depthwise convolutions; the
    results differ by rounding.
    """

    def before_run(self, runner: Runner) -> None:
        """Change the layout before anything runs."""
        lay_kernels_last(runner.model)


@HOOKS.register_module()
class IterSeedHook(Hook):
    """Seed python, numpy and torch anew in every training iteration.

    mmengine seeds a run once and a resumed run once more, so that after
    ``--resume`` gates, dropout and the like draw other numbers than an
    unbroken run. Here the draws of an iteration follow from the seed of the
    run, the rank and the number of the iteration. They also differ from
    rank to rank, which mmengine's do only with ``diff_rank_seed``.

    A resumed run then ends with the weights of an unbroken one, bit for bit
    where the kernels are deterministic (on a CPU: with as many threads), if

    - the seed is given (``randomness=dict(seed=...)`` or ``--seed``): without
      one the sampler of the resumed run has another;
    - the samples do not depend on earlier draws either: those of
      :class:`mmskip.datasets.ClipSampler` never do. Others do not with
      ``num_workers=0`` or ``persistent_workers=False`` in an epoch-based
      loop. Persistent workers draw on from epoch to epoch, and mmengine
      does not remember where they were;
    - an epoch-based loop saves its checkpoints at the end of an epoch,
      because mmengine resumes at the beginning of one. Iteration-based loops
      skip the batches that were seen, so any iteration will do, with
      ``ClipSampler``.
    """

    # Before all that might draw.
    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed what the first batch draws, if this process loads it."""
        _seed('epoch', runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Seed what the iteration draws, and the loading of the next batch."""
        _seed('iteration', runner)


@HOOKS.register_module()
class TemperatureHook(Hook):
    """Set the temperature of all policies from the epoch (SoF-Net, 4.2).

    ``initial * exp(-decay * (epoch - begin))``, and ``initial`` before
    ``begin``. It follows from the epoch alone, so it survives a resume. It
    is logged as ``temperature``.

    Args:
        initial: 5 in the thesis.
        decay: 0.045 in the thesis.
        begin: Epoch from which it falls: the first one with policies. (The
            thesis does not say; in the authors' code the warm-up is a run of
            its own, and epochs are counted anew.)

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self, initial: float = 5.0, decay: float = 0.045, begin: int = 0
    ) -> None:
        if not initial > 0:
            raise ValueError(f'expected initial > 0, got {initial!r}')
        if not decay >= 0:
            raise ValueError(f'expected decay >= 0, got {decay!r}')
        if not isinstance(begin, int) or begin < 0:
            raise ValueError(f'expected begin to be an int >= 0, got {begin}')
        self.initial = initial
        self.decay = decay
        self.begin = begin

    def temperature(self, epoch: int) -> float:
        """Return the temperature in an epoch, counted from 0."""
        age = max(epoch - self.begin, 0)
        return self.initial * math.exp(-self.decay * age)

    def before_train(self, runner: Runner) -> None:
        """Check that there is something to anneal.

        Raises:
            ValueError: The model has no policies, or the loop no epochs.
        """
        check_epochs(self, runner)
        if not any(
            isinstance(m, StopOrForwardHead) for m in runner.model.modules()
        ):
            raise ValueError(
                'expected a model with policies (mmskip.SoFRecognizer with '
                f'policy=dict(...)) for {type(self).__name__}, got none'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Set it."""
        value = self.temperature(runner.epoch)
        for module in runner.model.modules():
            if isinstance(module, StopOrForwardHead):
                module.temperature = value
        runner.message_hub.update_scalar('train/temperature', value)


@HOOKS.register_module()
class WarmUpHook(Hook):
    """Train without policies first (SoF-Net, section 4.2).

    "Since a random policy at initial training steps would hinder the
    learning backbone network", all frames are forwarded and only the
    classification is learned for some epochs; then everything is trained.
    What applies follows from the epoch alone, so it survives a resume.

    Args:
        epochs: Epochs of the first stage, 15 in the thesis.

    Raises:
        ValueError: ``epochs`` is not an int >= 0.
    """

    def __init__(self, epochs: int = 15) -> None:
        if not isinstance(epochs, int) or epochs < 0:
            raise ValueError(
                f'expected epochs to be an int >= 0, got {epochs}'
            )
        self.epochs = epochs

    def before_train(self, runner: Runner) -> None:
        """Check that the model and the loop fit.

        Raises:
            ValueError: The model knows no warm-up, the loop no epochs, or
                the distributed wrapper does not expect unused parameters.
        """
        check_epochs(self, runner)
        model = runner.model
        if (
            self.epochs
            and isinstance(model, MMDistributedDataParallel)
            and not model.find_unused_parameters
        ):
            raise ValueError(
                'expected find_unused_parameters=True in the config for '
                'distributed training with WarmUpHook, whose first stage '
                'does not use the policies; got False'
            )
        if not hasattr(_unwrap(model), 'warming_up'):
            raise ValueError(
                'expected a model with policies (mmskip.SoFRecognizer) for '
                f'WarmUpHook, got {type(_unwrap(model)).__name__}'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the model which stage it is in."""
        _unwrap(runner.model).warming_up = runner.epoch < self.epochs

    def after_train(self, runner: Runner) -> None:
        """Leave the model with its policies."""
        _unwrap(runner.model).warming_up = False


def check_epochs(hook: Hook, runner: Runner) -> None:
    """Refuse a loop that does not count epochs.

    Raises:
        ValueError: It does not.
    """
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        raise ValueError(
            f'expected an EpochBasedTrainLoop for {type(hook).__name__}, got '
            f'{type(runner.train_loop).__name__}; what it does is defined '
            'by epochs'
        )


def _seed(part: str, runner: Runner) -> None:
    seed = derive_seed(part, runner.seed, runner.rank, runner.iter)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (what transforms draw from)
    torch.manual_seed(seed)


def _unwrap(model):
    return model.module if is_model_wrapper(model) else model
