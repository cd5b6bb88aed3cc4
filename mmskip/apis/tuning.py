"""Gates that learn from a user's own videos, without labels.

The dense model teaches: :class:`GateTuner` lets the thresholds of a
converted model, and its layers if asked to, keep the outputs near the dense
ones at the cost that was asked for. Clips follow each other in a video, and
what a layer has transmitted goes on from one to the next, so that gates learn
what they will do in the middle of a stream.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.dist import (
    all_reduce,
    all_reduce_params,
    get_rank,
    get_world_size,
)
from torch import nn

from mmskip.core import GateCost, count_macs
from mmskip.evaluation import DistillLoss, FeatureLoss, loss_for, norm_gates
from mmskip.skip_conv import (
    GumbelNormGate,
    LearnedNormGate,
    SkipConvMixin,
    clip,
    stream,
)
from mmskip.skip_conv.conversion import is_cheap
from mmskip.video import open_reader

from .calibration import Batch, raw_outputs, run_tensors
from .errors import UserError
from .frame_stream import ClipPipeline, FramePipeline

STATE_VERSION = 1
# Frames of a video by which the thresholds are brought to the budget, at most.
FITTED = 160


@dataclass(frozen=True)
class TuneSettings:
    """Says how gates learn.

    Args:
        share: MACs to spend, as a share of the dense model's, gates and all;
            None if it is the error that is bounded.
        error: Bound on :attr:`mmskip.evaluation.Cost.error`; None if it is
            the share.
        streams: Videos that run side by side, B.
        frames: Frames of a clip, over which gradients reach back, T.
        rate: Learning rate of the logarithms of thresholds, and of those of
            gates' kernels.
        layer_rate: That of the layers; 0 leaves them as they are.
        feature_weight: Weight of the error of the features that the head
            reads, beside that of the outputs.
        beta: Weight of the cost to begin with; it follows the share.
        seed: Of the choice of clips and of the decisions that are drawn.

    Raises:
        ValueError: A setting is out of range.
    """

    share: float | None = None
    error: float | None = None
    streams: int = 2
    frames: int = 3
    rate: float = 0.03
    layer_rate: float = 0.0
    feature_weight: float = 0.1
    beta: float = 0.06
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.share is None) == (self.error is None):
            raise ValueError(
                f'expected either a share or an error, got {self.share} and '
                f'{self.error}'
            )
        if self.share is not None and not 0 < self.share < 1:
            raise ValueError(
                f'expected a share of the MACs in (0, 1), got {self.share}'
            )
        if self.error is not None and not self.error > 0:
            raise ValueError(f'expected an error > 0, got {self.error}')


class Segment(NamedTuple):
    """Holds consecutive frames of a video, prepared for the model.

    Attributes:
        video: Path of the video.
        first: Number of the first frame.
        frames: Batches of one frame each; of a recognizer one batch, a clip.
    """

    video: str
    first: int
    frames: list[Batch]


class Footage(NamedTuple):
    """Holds what gates learn on, and what shows what that is worth.

    Attributes:
        learn: Segments of one length.
        fit: Longer ones of the same frames, in which the reference frame
            hardly counts.
        held: The last part of each video.
        num_frames: Frames of each batch: 1, or those of a recognizer's clip.
    """

    learn: list[Segment]
    fit: list[Segment]
    held: list[Segment]
    num_frames: int = 1


def read_footage(
    model: nn.Module,
    videos: Sequence[str],
    length: int,
    held: float,
    most: int,
    bbox: Sequence[float] | None = None,
) -> Footage:
    """Read segments of videos, and keep the last part of each aside.

    Args:
        model: From :func:`init_model`.
        videos: Files, or folders of images.
        length: Frames of a segment that gates learn on.
        held: Share of each video to keep aside, at its end.
        most: Frames of each video that are read, from its start.
        bbox: Box of a pose estimator.

    Raises:
        UserError: A video is too short.
    """
    if model.cfg.get('default_scope') == 'mmaction':
        return _read_clips(model, videos, length, held, most)
    learn, longer, aside = [], [], []
    for path in videos:
        prepare = FramePipeline(model, bbox)
        with open_reader(path) as reader:
            frames = [
                prepare(frame.image, frame.index)
                for frame in islice(reader, most)
            ]
        cut = len(frames) - round(held * len(frames))
        if cut < length or len(frames) - cut < 2:
            raise UserError(
                f'{path}: expected at least {math.ceil(length / (1 - held))} '
                f'frames, {length} to learn on and the last {held:.0%} to '
                f'check, got {len(frames)}; take a longer video'
            )
        learn += [
            Segment(path, at, frames[at : at + length])
            for at in range(0, cut - length + 1, length)
        ]
        start = max(0, cut // 2 - FITTED // 2)
        longer.append(Segment(path, start, frames[:cut][start:][:FITTED]))
        aside.append(Segment(path, cut, frames[cut:]))
    return Footage(learn, longer, aside)


def _read_clips(
    model: nn.Module,
    videos: Sequence[str],
    length: int,
    held: float,
    most: int,
) -> Footage:
    """Let a recognizer sample a clip of each segment; the last are kept."""
    prepare = ClipPipeline(model)
    segments = []
    for path in videos:
        with open_reader(path) as reader:
            images = [frame.image for frame in islice(reader, most)]
        # A shorter video is one clip.
        for at in range(0, max(len(images) - length, 0) + 1, length):
            clip = prepare(images[at : at + length])
            segments.append(Segment(path, at, [clip]))
    cut = len(segments) - max(1, round(held * len(segments)))
    if cut < 1:
        raise UserError(
            f'expected videos with two clips or more, one of them to check, '
            f'got {len(segments)} of {length} frames; take a longer video, or '
            'a shorter --segment'
        )
    learn = segments[:cut]
    step = -(-len(learn) * prepare.num_frames // FITTED)
    return Footage(learn, learn[::step], segments[cut:], prepare.num_frames)


def learn_thresholds(
    model: nn.Module, kernels: bool = False
) -> dict[str, LearnedNormGate]:
    """Replace the norm gates of a model by ones that learn, in place.

    Args:
        model: A converted model.
        kernels: Give them kernels to learn, too, except where these would
            cost what the layer does.

    Returns:
        The gates by layer; they begin with the thresholds that were there.

    Raises:
        UserError: A gate cannot learn here: it is open for good, its layer
            keeps the other memory, or it has a kernel to learn.
    """
    layers, found = dict(model.named_modules()), {}
    for name, layer in layers.items():
        if isinstance(layer, SkipConvMixin) and layer.gate.kind == 'learned':
            raise UserError(
                f'{name}: expected norm gates, whose thresholds can learn '
                f'here, got a {type(layer.gate).__name__}; it learns with its '
                'model, by mmskip train'
            )
    for name, gate in norm_gates(model).items():
        layer = layers[name]
        if isinstance(gate, LearnedNormGate):
            found[name] = gate
            continue
        if layer.memory != 'accumulated':
            raise UserError(
                f"{name}: expected memory='accumulated' for gates to learn, "
                f'got {layer.memory!r}; see '
                'configs/_base_/conversions/output_norm.py'
            )
        if not gate.threshold > 0:
            raise UserError(
                f'{name}: expected a threshold above 0 to begin with, got '
                f'{gate.threshold}'
            )
        has_kernel = kernels and not is_cheap(layer)
        learned = (GumbelNormGate if has_kernel else LearnedNormGate)(
            gate.threshold,
            gate.kind.removesuffix('_norm'),
            gate.block_size,
            gate.order,
            gate.relative,
        )
        learned.attach(layer)
        learned.folded = gate.folded
        layer.gate = learned.to(layer.weight.device)
        found[name] = learned
    return found


def freeze_thresholds(model: nn.Module) -> dict[str, float]:
    """Turn learned gates back into norm gates, in place.

    Those with a kernel keep it, beside a threshold that does not learn.

    Returns:
        The thresholds by layer.
    """
    layers = dict(model.named_modules())
    gates = norm_gates(model)
    for name, gate in list(gates.items()):
        if isinstance(gate, LearnedNormGate):
            layers[name].gate = gates[name] = gate.plain()
    return {name: gate.threshold for name, gate in gates.items()}


class Step(NamedTuple):
    """Tells what one step of learning gave.

    Attributes:
        loss: Distance from the dense outputs, see
            :mod:`mmskip.evaluation.agreement`.
        error: See :attr:`mmskip.evaluation.Cost.error`.
        share: MACs that were spent, as a share of the dense ones.
        beta: Weight of the cost.
    """

    loss: float
    error: float
    share: float
    beta: float


class GateTuner:
    """Lets the gates of a model learn from segments of video.

    Args:
        model: A converted model in eval mode, with the gates of
            :func:`learn_thresholds`.
        segments: All of one length, a multiple of ``settings.frames``; or
            of one batch, a clip.
        settings: How to learn.
        num_frames: See :class:`Footage`. Each clip of a recognizer begins
            with a reference frame.

    Attributes:
        rounds_done: Rounds so far; in each every stream runs a segment.
        steps: What each step gave.

    Raises:
        UserError: The gates themselves cost more than the share.
    """

    def __init__(
        self,
        model: nn.Module,
        segments: Sequence[Segment],
        settings: TuneSettings,
        num_frames: int = 1,
    ) -> None:
        self.rounds_done = 0
        self.steps: list[Step] = []
        self._model = model
        self._segments = segments
        self._settings = settings
        self._num_frames = num_frames
        # Batches of a step.
        self._batches = settings.frames if num_frames == 1 else 1
        self._beta = settings.beta
        self._recent: float | None = None
        groups = [
            dict(params=params, lr=settings.rate) for params in _learned(model)
        ]
        self._teacher = model
        if settings.layer_rate:
            self._teacher = copy.deepcopy(model)
            layers = [
                parameter
                for name, parameter in model.named_parameters()
                if '.gate.' not in name
            ]
            groups.append(dict(params=layers, lr=settings.layer_rate))
        model.requires_grad_(False)
        for group in groups:
            for parameter in group['params']:
                parameter.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        self._rates = [group['lr'] for group in groups]
        self._fixed, self._part = self._measure_costs()
        self._loss: DistillLoss | None = None
        self._feature_loss = FeatureLoss()

    @property
    def steps_per_round(self) -> int:
        """Number of clips that a segment has."""
        return len(self._segments[0].frames) // self._batches

    def run(self, rounds: int, until: int | None = None) -> Iterator[Step]:
        """Learn until so many rounds are done, and tell each step.

        Args:
            rounds: All rounds, those of before this call included; the
                learning rate falls to 0 over them.
            until: Rounds after which to stop before that.
        """
        # The root tells clips that they train; what is in it stays in eval
        # mode, so that batch norms and dropout do what they do in a stream.
        self._model.training = True
        try:
            while self.rounds_done < min(rounds, until or rounds):
                yield from self._round(rounds)
                self.rounds_done += 1
        finally:
            self._model.eval()

    def state_dict(self) -> dict[str, Any]:
        """Return what a run needs to go on after a round."""
        return dict(
            version=STATE_VERSION,
            settings=asdict(self._settings),
            rounds_done=self.rounds_done,
            model=self._model.state_dict(),
            optimizer=self._optimizer.state_dict(),
            beta=self._beta,
            recent=self._recent,
            steps=[tuple(step) for step in self.steps],
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            UserError: It is of other settings.
        """
        expected = asdict(self._settings)
        if state.get('version') != STATE_VERSION or (
            state['settings'] != expected
        ):
            raise UserError(
                f'expected the state of a run with {expected}, got one with '
                f'{state.get("settings")}; take the same options, or another '
                'folder'
            )
        self._model.load_state_dict(state['model'])
        self._optimizer.load_state_dict(state['optimizer'])
        self.rounds_done = state['rounds_done']
        self._beta, self._recent = state['beta'], state['recent']
        self.steps = [Step(*step) for step in state['steps']]

    def _round(self, rounds: int) -> Iterator[Step]:
        settings = self._settings
        # A run that was killed draws what an unbroken one draws.
        generator = torch.Generator().manual_seed(
            settings.seed * 1_000_003 + self.rounds_done
        )
        count = settings.streams * get_world_size()
        order = torch.randperm(len(self._segments), generator=generator)
        order = order.repeat(-(-count // len(order)))[:count].tolist()
        own = order[get_rank() :: get_world_size()]
        seed = int(torch.randint(2**31, (), generator=generator))
        torch.manual_seed(seed + get_rank())
        chosen = [self._segments[index].frames for index in own]
        length, state = len(chosen[0]), {} if self._num_frames == 1 else None
        for at in range(0, length, self._batches):
            batches = [f for s in chosen for f in s[at : at + self._batches]]
            done = self.rounds_done + at / length
            self._set_rates(done / rounds, len(self.steps))
            step = self._step(batches, state)
            self.steps.append(step)
            yield step

    def _step(self, batches: Sequence[Batch], state: dict | None) -> Step:
        settings = self._settings
        data = self._model.data_preprocessor(_joined(batches))
        with torch.no_grad():
            targets, features = self._forward(self._teacher, data)
        if self._loss is None:
            self._loss = loss_for(self._model, targets)
        frames = self._batches * self._num_frames
        with clip(self._model, frames, state) as binding:
            outputs, own_features = self._forward(self._model, data)
        clips = settings.streams
        loss = self._loss(outputs, targets, clips)
        if settings.feature_weight:
            wrong = self._feature_loss(own_features, features, clips)
            loss = loss + settings.feature_weight * wrong
        loss = loss.mean()
        expected, hard = GateCost.total(binding.costs)
        with torch.no_grad():
            error = self._feature_loss(outputs, targets, clips).mean()
            seen = torch.stack([loss, error, hard])
        all_reduce(seen, 'mean')
        shown, error, hard = seen.tolist()
        error **= 0.5
        share = self._fixed + self._part * hard
        weight = self._weight_of_cost(share, error)
        (loss + weight * self._part * expected / share).backward()
        self._learn()
        self._shift()
        return Step(shown, error, share, weight)

    def _weight_of_cost(self, share: float, error: float) -> float:
        """Follow the share, or the error, that was asked for.

        The weight that is remembered moves slowly, as the mean of the last
        steps is off; the one that is used answers at once.
        """
        wanted = self._settings.share
        now = error if wanted is None else share
        before = now if self._recent is None else self._recent
        self._recent = 0.9 * before + 0.1 * now
        over = self._over()
        self._beta *= math.exp(0.03 * max(-1.0, min(1.0, over)))
        return self._beta * math.exp(2 * max(-1.4, min(1.4, over)))

    def _over(self) -> float:
        """Tell how far the last steps were above the budget, a logarithm.

        Steps that err less than they may have MACs to save.
        """
        if self._settings.share is None:
            return math.log(self._settings.error / max(self._recent, 1e-6))
        return math.log(self._recent / self._settings.share)

    def _shift(self) -> None:
        """Move all thresholds together towards the budget.

        Gates that are all but closed have no gradient that would open them.
        """
        gates, *_ = self._optimizer.param_groups
        shift = gates['lr'] * max(-1.0, min(1.0, self._over()))
        with torch.no_grad():
            for log_factor in gates['params']:
                log_factor += shift

    def _learn(self) -> None:
        groups = self._optimizer.param_groups
        parameters = chain(*(group['params'] for group in groups))
        all_reduce_params(
            (p.grad for p in parameters if p.grad is not None), op='mean'
        )
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _set_rates(self, done: float, steps: int) -> None:
        factor = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        factor *= min(1.0, (steps + 1) / 10)
        groups = self._optimizer.param_groups
        for group, rate in zip(groups, self._rates, strict=True):
            group['lr'] = rate * factor

    def _forward(self, model: nn.Module, data: Mapping) -> tuple[Any, Any]:
        kept: list[Any] = []
        part = getattr(model, 'neck', None) or getattr(model, 'backbone', None)
        handle = None
        if part is not None and self._settings.feature_weight:
            handle = part.register_forward_hook(
                lambda _m, _i, output: kept.append(output)
            )
        try:
            outputs = raw_outputs(model, data)
        finally:
            if handle is not None:
                handle.remove()
        return outputs, kept

    def _measure_costs(self) -> tuple[float, float]:
        """Tell what is spent however gates decide, and what they decide on.

        Returns:
            Shares of the dense MACs: of gates, layers that are not converted
            and the reference frames of clips; of converted layers in other
            frames.
        """
        *first, last = self._segments[0].frames[:2]
        with (
            torch.no_grad(),
            stream(self._model, num_frames=self._num_frames),
        ):
            for batch in first:
                run_tensors(self._model, batch)
            with count_macs(self._model) as ledger:
                run_tensors(self._model, last)
        total = ledger.total()
        converted = sum(
            count.dense - count.reference
            for name, count in ledger.by_module().items()
            if isinstance(self._model.get_submodule(name), SkipConvMixin)
        )
        fixed = 1 + (total.overhead - converted) / total.dense
        share = self._settings.share
        if share is not None and share <= fixed:
            clips = ' and the first frame of each clip'
            raise UserError(
                f'expected a share of the MACs above {fixed:.1%}, which the '
                'gates and the layers that are not converted'
                f'{clips if self._num_frames > 1 else ""} take, got '
                f'{share:.1%}'
            )
        return fixed, converted / total.dense


def _learned(model: nn.Module) -> list[list[nn.Parameter]]:
    """List the thresholds that learn, and the kernels if there are some."""
    gates = [
        gate
        for gate in norm_gates(model).values()
        if isinstance(gate, LearnedNormGate)
    ]
    kernels = [gate.log_kernel for gate in gates if gate.has_kernel]
    factors = [gate.log_factor for gate in gates]
    return [factors, kernels] if kernels else [factors]


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state whole or not at all."""
    partial = path.with_suffix('.partial')
    torch.save(dict(state), partial)
    partial.replace(path)


def _joined(batches: Sequence[Batch]) -> Batch:
    """Put batches of one frame each together."""
    return {
        key: [item for batch in batches for item in batch[key]]
        for key in batches[0]
    }
