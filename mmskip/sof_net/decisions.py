"""Decisions over whole videos: actions in training, and the early exit.

S. J. Hyeon, "Dynamic layer skipping for efficient action recognition", M.S.
thesis, Seoul National University, 2023, sections 3.2 and 3.3. Symbols: B
videos, T frames, N policies, K classes, H of the hidden state. The baselines
choose frames without examining them.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmskip.options import check_options
from mmskip.registry import MODELS

from .policy import StopOrForwardHead


def label_matrix(
    data_samples: Sequence[BaseDataElement], num_classes: int
) -> Tensor:
    """Write the labels of videos as rows with a 1 for each label.

    Args:
        data_samples: Samples with ``gt_label``: one index, shape (1,), or,
            with several labels per video (``multi_class`` of mmaction2's
            data sets) or blended videos, a row of shape (K,).
        num_classes: K.

    Returns:
        Float (B, K).

    Raises:
        ValueError: A label does not fit the number of classes.
    """
    rows = []
    for sample in data_samples:
        label = sample.gt_label
        if label.numel() == num_classes > 1:
            rows.append(label.float())
        elif label.numel() == 1 and 0 <= int(label) < num_classes:
            row = torch.zeros(num_classes, device=label.device)
            rows.append(row.index_fill(0, label.reshape(1).long(), 1))
        else:
            raise ValueError(
                f'expected a label in [0, {num_classes}) or a row of '
                f'{num_classes} labels, got {label.tolist()}; set '
                'num_classes of the cls_head (and of the dataset, if '
                'multi_class) to the number of classes of the data'
            )
    return torch.stack(rows)


@check_options
@dataclass(frozen=True)
class EarlyExit:
    """Terminates a video once its class is certain (Eq. 3.7).

    Attributes:
        rho: Probability that the best class has to exceed; 0.999 in the
            thesis. 1 never terminates.
        t_min: Number of frames that have to be exceeded by those examined
            (stopped ones count); 3 in the thesis. The authors' code examines
            5 frames at least, which is 4 here.

    Raises:
        ValueError: An option is out of range.
    """

    rho: float = 0.999
    t_min: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.rho <= 1:
            raise ValueError(f'expected rho in (0, 1], got {self.rho!r}')
        if not isinstance(self.t_min, int) or self.t_min < 0:
            raise ValueError(
                f'expected t_min to be an int >= 0, got {self.t_min!r}'
            )

    def check_length(self, frames: int) -> None:
        """Refuse videos of so few frames that nothing could terminate.

        Args:
            frames: T.

        Raises:
            ValueError: ``t_min`` is not below the number of frames.
        """
        if self.t_min >= frames:
            raise ValueError(
                f'expected t_min below the number of frames T, got '
                f't_min={self.t_min} and T={frames}: no video could '
                'terminate early; lower t_min, sample more frames, or set '
                'early_exit=None'
            )

    def terminates(self, scores: Tensor, examined: int) -> Tensor:
        """Tell for each video if it ends here.

        Args:
            scores: Probabilities (B, K) after the frames so far.
            examined: Number of frames examined so far.

        Returns:
            Bool (B,).
        """
        if examined <= self.t_min:
            return scores.new_zeros(len(scores)).bool()
        return scores.amax(-1) > self.rho


def windows(
    frames: int, lookahead: int, early_exit: EarlyExit | None
) -> Iterator[slice]:
    """Cut a video into windows of frames that run together.

    The first one ends where the video may first terminate.

    Args:
        frames: T.
        lookahead: Number of frames that run together.
        early_exit: Rule that may end the video; None: it runs to the end.

    Yields:
        Slices that cover all frames, in order.
    """
    start = 0
    while start < frames:
        length = lookahead
        if early_exit is not None and start == 0 and length > 1:
            length = early_exit.t_min + 1
        yield slice(start, start + length)
        start += length


class Decisions(NamedTuple):
    """Holds the actions that policies drew in training.

    Attributes:
        actions: ``g`` (B, T, N): 1 where a policy forwarded a frame that
            reached it, else 0. So ``s`` is the last column.
        margins: (B, T, N), whose sigmoid is the probability to forward.
        inner_logits: Logits (B, T, N, K) of the inner classifiers; None
            without them.
    """

    actions: Tensor
    margins: Tensor
    inner_logits: Tensor | None


def decide(
    policies: Sequence[StopOrForwardHead], embedded: Sequence[Tensor]
) -> Decisions:
    """Draw all actions (Eq. 3.2-3.4), frame after frame.

    All policies decide on all frames, whether these would have reached them
    or not: their features have been computed for all frames at once. All of
    them go on from the state of the last frame that *none* of them skipped:
    the thesis writes one index of that frame for all places.

    Args:
        policies: The N policies.
        embedded: Embedded features (B, T, E) for each of them.
    """
    videos, frames = embedded[0].shape[:2]
    states = [policy.initial_state(videos) for policy in policies]
    gates, margins, hidden = [], [], []
    for t in range(frames):
        steps = [
            policy.step(x[:, t], state)
            for policy, x, state in zip(
                policies, embedded, states, strict=True
            )
        ]
        drawn = torch.stack(
            [p.draw(s.margin) for p, s in zip(policies, steps, strict=True)], 1
        )
        passed = drawn.detach().prod(1).bool()[:, None, None]
        states = [
            torch.where(passed, step.state, state)
            for step, state in zip(steps, states, strict=True)
        ]
        gates.append(drawn)
        margins.append(torch.stack([step.margin for step in steps], 1))
        hidden.append([step.hidden for step in steps])
    return Decisions(
        torch.stack(gates, 1).cumprod(-1),
        torch.stack(margins, 1),
        _classify(policies, hidden),
    )


def used_frames(actions: Tensor) -> Tensor:
    """Select the frames that are aggregated: ``s`` of Eq. 3.6.

    The equation has no value for a video whose frames were all stopped. The
    frame of it that got furthest, the first if there are several, is then
    used after all.

    Args:
        actions: ``g`` (B, T, N).

    Returns:
        (B, T), 0 or 1, at least one 1 per video. The gradient is that of
        ``s``, so that in training such a video tells its policies which
        frame would have helped.
    """
    used = actions[..., -1]
    furthest = actions.detach().sum(-1).argmax(1, keepdim=True)
    rescued = torch.zeros_like(used).scatter(1, furthest, 1.0)
    return used + rescued * (used.detach().sum(1, keepdim=True) == 0)


def aggregate(logits: Tensor, used: Tensor) -> Tensor:
    """Average the logits of the used frames (Eq. 3.6, before the softmax).

    Args:
        logits: ``z`` (B, T, K).
        used: ``s`` (B, T), at least one 1 per video.

    Returns:
        (B, K).
    """
    return (used[..., None] * logits).sum(1) / used.sum(1, keepdim=True)


def _classify(
    policies: Sequence[StopOrForwardHead], hidden: list[list[Tensor]]
) -> Tensor | None:
    """Run the inner classifiers on ``h`` of each frame and place."""
    if any(policy.classifier is None for policy in policies):
        return None
    by_place = [torch.stack(place, 1) for place in zip(*hidden, strict=True)]
    return torch.stack(
        [p.classifier(h) for p, h in zip(policies, by_place, strict=True)], 2
    )


@MODELS.register_module()
class EveryKthFrame:
    """Chooses frames 0, k, 2k, ...

    Args:
        k: Distance between the chosen frames.

    Raises:
        ValueError: ``k`` is not a positive int.
    """

    def __init__(self, k: int) -> None:
        if not isinstance(k, int) or k < 1:
            raise ValueError(f'expected k to be a positive int, got {k!r}')
        self.k = k

    def __call__(
        self, frames: int, data_samples: Sequence[BaseDataElement]
    ) -> Tensor:
        """Choose frames of B videos.

        Args:
            frames: T.
            data_samples: One sample per video.

        Returns:
            Bool (B, T), on the CPU.
        """
        chosen = torch.arange(frames) % self.k == 0
        return chosen.expand(len(data_samples), -1)


@MODELS.register_module()
class RandomFrames:
    """Chooses some frames at random, drawn anew for each video.

    The draw depends on the video's name and on nothing else, hence neither
    on the batch size nor on the number of ranks.

    Args:
        num_frames: Number of frames to choose.
        seed: Seed of the draws.
        key: Key of the video's name in the data samples' meta information.

    Raises:
        ValueError: ``num_frames`` is not a positive int.
    """

    def __init__(
        self, num_frames: int, seed: int = 0, key: str = 'filename'
    ) -> None:
        if not isinstance(num_frames, int) or num_frames < 1:
            raise ValueError(
                f'expected num_frames to be a positive int, got {num_frames!r}'
            )
        self.num_frames = num_frames
        self.seed = seed
        self.key = key

    def __call__(
        self, frames: int, data_samples: Sequence[BaseDataElement]
    ) -> Tensor:
        """Choose frames of B videos.

        Args:
            frames: T.
            data_samples: One sample per video, whose meta information names
                the video.

        Returns:
            Bool (B, T), on the CPU.

        Raises:
            KeyError: A data sample does not tell its video.
            ValueError: There are fewer than ``num_frames`` frames.
        """
        if frames < self.num_frames:
            raise ValueError(
                f'expected at least num_frames={self.num_frames} frames per '
                f'video, got {frames}'
            )
        chosen = torch.zeros(len(data_samples), frames, dtype=torch.bool)
        for row, sample in zip(chosen, data_samples, strict=True):
            if self.key not in sample.metainfo:
                raise KeyError(
                    f'expected {self.key!r} in the meta information of the '
                    f'data samples, got {sorted(sample.metainfo)}; add it to '
                    'meta_keys of PackActionInputs'
                )
            name = f'{self.seed} {sample.metainfo[self.key]}'
            draws = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            order = torch.randperm(frames, generator=draws)
            row[order[: self.num_frames]] = True
        return chosen
