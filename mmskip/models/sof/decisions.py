"""The policies over whole videos in training, and the aggregation.

Symbols: B videos, T frames, N policies, K classes, H of the hidden state.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmskip.layers import StopOrForwardHead


class Decisions(NamedTuple):
    """What the policies did in training.

    Attributes:
        actions: ``g`` (B, T, N): 1 where a policy forwarded a frame that
            reached it, else 0. So ``s`` is the last column.
        margins: (B, T, N), whose sigmoid is the probability to forward.
        inner_logits: (B, T, N, K) of the inner classifiers; None without.
    """

    actions: Tensor
    margins: Tensor
    inner_logits: Tensor | None


def decide(
    policies: Sequence[StopOrForwardHead], embedded: Sequence[Tensor]
) -> Decisions:
    """Draw all actions (Eq. 3.2-3.4), frame after frame.

    All policies see all frames, whether they would have reached them or not;
    what they see, the layers' work, has been computed for all frames at once.
    All of them go on from the state of the last frame that *none* of them
    skipped: the thesis writes one index of that frame for all places.

    Args:
        policies: The N policies.
        embedded: (B, T, E) for each of them.
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
        _answer(policies, hidden),
    )


def _answer(
    policies: Sequence[StopOrForwardHead], hidden: list[list[Tensor]]
) -> Tensor | None:
    """Logits of the inner classifiers, from ``h`` of each frame and place."""
    if any(policy.classifier is None for policy in policies):
        return None
    by_place = [torch.stack(place, 1) for place in zip(*hidden, strict=True)]
    return torch.stack(
        [p.classifier(h) for p, h in zip(policies, by_place, strict=True)], 2
    )


def used_frames(actions: Tensor) -> Tensor:
    """Which frames the answer is made of: ``s`` of Eq. 3.6.

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
    """Mean logit of the used frames (Eq. 3.6, before the softmax).

    Args:
        logits: ``z`` (B, T, K).
        used: ``s`` (B, T), at least one 1 per video.

    Returns:
        (B, K).
    """
    return (used[..., None] * logits).sum(1) / used.sum(1, keepdim=True)
