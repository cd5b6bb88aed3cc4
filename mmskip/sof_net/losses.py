"""Losses of SoF-Net, for guiding its policies and for their cost.

S. J. Hyeon, "Dynamic layer skipping for efficient action recognition", M.S.
thesis, Seoul National University, 2023, section 3.3: guidance (3.3.3) teaches
policies what a frame is good for, efficiency what it costs to forward it.
Symbols: B videos, T frames, N policies, K classes; ``g`` the actions, ``p``
the answers of the inner classifiers, ``y`` the labels.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmskip.registry import MODELS

UNITS = ('gmac', 'share')
GIGA = 1e9


def inner_classification_loss(
    logits: Tensor, labels: Tensor, actions: Tensor
) -> Tensor:
    """Compute the cross entropy of the inner classifiers (Eq. 3.13).

    Frames count where the policy beside the classifier forwarded them. The
    actions choose the terms and get no gradient from them: "the inner
    classifiers are learned", not the policies.

    Args:
        logits: Logits (B, T, N, K) of the inner classifiers.
        labels: (B, K), 1 for each label of a video; the cross entropy of a
            video with several is the sum over them.
        actions: ``g`` (B, T, N), 1 where a policy forwarded a frame, else 0.

    Returns:
        A scalar, 0 if no frame was forwarded anywhere.
    """
    labels = labels[:, None, None]
    entropy = -(labels * logits.log_softmax(-1)).sum(-1)
    chosen = actions.detach()
    return (chosen * entropy).sum() / chosen.sum().clamp(min=1)


def self_supervision_loss(
    margins: Tensor, logits: Tensor, labels: Tensor
) -> Tensor:
    """Compare decisions with pseudo-labels (Eq. 3.14 and 3.15).

    A frame should have been forwarded if the next inner classifier gives the
    right class (any of the right classes) a higher score than this one.

    The thesis compares the action ``g`` with its pseudo-label. ``g`` is 0 or
    1, for which the entropy is 0 or infinite; here its probability stands in
    its place, in a binary cross entropy.

    Args:
        margins: (B, T, N), whose sigmoid is the probability to forward.
        logits: Logits (B, T, N, K) of the inner classifiers.
        labels: (B, K), 1 for each label of a video.

    Returns:
        A scalar, the mean over all frames and all policies but the last.
    """
    scores = (labels[:, None, None] * logits.detach().softmax(-1)).sum(-1)
    targets = (scores[..., 1:] > scores[..., :-1]).to(margins.dtype)
    return F.binary_cross_entropy_with_logits(margins[..., :-1], targets)


@MODELS.register_module()
class PolicyGuidanceLoss(nn.Module):
    """Guides policies by inner classifiers beside them (Eq. 3.12).

    It is the sum of :func:`inner_classification_loss` and
    :func:`self_supervision_loss`.

    Args:
        beta: Weight of the first; the second has ``1 - beta``.

    Raises:
        ValueError: ``beta`` is outside [0, 1].
    """

    def __init__(self, beta: float = 0.9) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f'expected beta in [0, 1], got {beta!r}')
        self.beta = beta

    def forward(
        self, margins: Tensor, logits: Tensor, labels: Tensor, actions: Tensor
    ) -> dict[str, Tensor]:
        """Compute both terms, weighted, as entries for a dict of losses.

        Args:
            margins: (B, T, N), whose sigmoid is the probability to forward.
            logits: Logits (B, T, N, K) of the inner classifiers.
            labels: (B, K), 1 for each label of a video.
            actions: ``g`` (B, T, N), 1 where a policy forwarded a frame.

        Returns:
            ``loss_inner`` and ``loss_self``.
        """
        inner = inner_classification_loss(logits, labels, actions)
        own = self_supervision_loss(margins, logits, labels)
        return dict(
            loss_inner=self.beta * inner, loss_self=(1 - self.beta) * own
        )

    def extra_repr(self) -> str:
        return f'beta={self.beta}'


@MODELS.register_module()
class EfficiencyLoss(nn.Module):
    """Penalises the cost of the layers behind each policy (Eq. 3.11).

    Args:
        unit: ``gmac``, as in the thesis, or ``share`` of a whole frame, so
            that one weight suits networks of any size (ours).

    Raises:
        ValueError: ``unit`` is neither.
    """

    def __init__(self, unit: str = 'gmac') -> None:
        super().__init__()
        if unit not in UNITS:
            raise ValueError(
                f'expected unit to be one of {UNITS}, got {unit!r}'
            )
        self.unit = unit

    def forward(
        self, actions: Tensor, remaining: Sequence[int], frame_macs: int
    ) -> Tensor:
        """Average the cost over frames and policies.

        Args:
            actions: ``g`` (B, T, N), 1 where a policy forwarded a frame. A
                frame that stopped reaches no further policy: 0 from there.
            remaining: ``f_lookup`` (Eq. 3.10), MACs of a frame behind each
                of the N places.
            frame_macs: MACs of a whole frame.

        Returns:
            A scalar.
        """
        unit = GIGA if self.unit == 'gmac' else frame_macs
        lookup = actions.new_tensor([macs / unit for macs in remaining])
        return (actions * lookup).mean()

    def extra_repr(self) -> str:
        return f'unit={self.unit!r}'
