"""All policies of SoF-Net at once, in inference."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .stop_policy import StopOrForwardHead


class Recollection(NamedTuple):
    """What N policies remember of B videos.

    Attributes:
        gates: (N, B, 4H), what it adds to the gates of the LSTM.
        cell: (N, B, H).
    """

    gates: Tensor
    cell: Tensor


class Verdict(NamedTuple):
    """What policies make of frames.

    Attributes:
        margin: How much ``forward`` is preferred, (N, B, n).
        hidden: ``h`` (N, B, n, H).
        cell: (N, B, n, H); (N, B, n, 0) without memory.
    """

    margin: Tensor
    hidden: Tensor
    cell: Tensor


class Judges:
    """The same as :meth:`StopOrForwardHead.step` at N places in one go.

    Small tensors take longer to hand over than to compute.

    Args:
        policies: At least one; all with memory or all without.
    """

    def __init__(self, policies: Sequence[StopOrForwardHead]) -> None:
        self.policies = policies
        # (N, 1, 1, H) and (N, 1, 1): forward less stop.
        weights = torch.stack([policy.gate.weight for policy in policies])
        biases = torch.stack([policy.gate.bias for policy in policies])
        self._weight = (weights[:, 1] - weights[:, 0])[:, None, None]
        self._bias = (biases[:, 1] - biases[:, 0])[:, None, None]
        self._temporal = policies[0].temporal

    def begin(self, videos: int) -> Recollection:
        """What is remembered before the first frame of ``videos`` videos."""
        places, width = len(self.policies), 0
        if self._temporal:
            width = self.policies[0].hidden_channels
        nothing = self._weight.new_zeros(places, videos, width)
        return self._recall(nothing, nothing)

    def remember(
        self, known: Recollection, video: int, verdict: Verdict, frame: int
    ) -> None:
        """Go on from a frame that no policy skipped.

        Args:
            known: Of all videos; changed in place.
            video: Whose frame it was.
            verdict: On it and others.
            frame: Its index in the verdict.
        """
        if not self._temporal:
            return
        chosen = slice(video, video + 1)
        new = self._recall(
            verdict.hidden[:, chosen, frame], verdict.cell[:, chosen, frame]
        )
        known.gates[:, chosen] = new.gates
        known.cell[:, chosen] = new.cell

    def judge(
        self,
        prepared: Tensor,
        known: Recollection,
        places: slice = slice(None),
    ) -> Verdict:
        """Decide on n frames of each video that follow the same past.

        Args:
            prepared: (N, B, n, P), see :meth:`StopOrForwardHead.forward`.
            known: What is remembered of the B videos.
            places: Of the policies, if they are not all.
        """
        hidden, cell = prepared, prepared[..., :0]
        if self._temporal:
            gates = prepared + known.gates[:, :, None]
            take, keep, new, show = gates.chunk(4, -1)
            cell = keep.sigmoid() * known.cell[:, :, None]
            cell = torch.addcmul(cell, take.sigmoid(), new.tanh())
            hidden = show.sigmoid() * cell.tanh()
        margin = (hidden * self._weight[places]).sum(-1) + self._bias[places]
        return Verdict(margin, hidden, cell)

    def _recall(self, hidden: Tensor, cell: Tensor) -> Recollection:
        if not self._temporal:
            return Recollection(hidden, cell)
        gates = [
            policy(h, recalls=True)
            for policy, h in zip(self.policies, hidden, strict=True)
        ]
        return Recollection(torch.stack(gates), cell.clone())
