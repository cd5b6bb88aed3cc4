"""The policy of SoF-Net: does a frame go on to the next stage or stop here."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmskip.core import CountedWhole, sample_gate
from mmskip.options import check_least
from mmskip.registry import MODELS

ACTIONS = 2  # stop, forward


class PolicyStep(NamedTuple):
    """What a policy makes of one frame of each video.

    Attributes:
        margin: (B,), how much ``forward`` is preferred to ``stop``: the
            difference of the two entries of ``q`` (Eq. 3.3).
        hidden: ``h`` (B, H) of Eq. 3.2.
        state: What the next frame of a video sees if this one is not
            skipped: (B, 2, H), hidden and cell state; (B, 2, 0) for a policy
            without memory.
    """

    margin: Tensor
    hidden: Tensor
    state: Tensor


@MODELS.register_module()
class StopOrForwardHead(CountedWhole):
    """The policy at one place of the backbone (Eq. 3.1-3.4).

    Average pooling, an embedding ``W_x``, one LSTM cell over the frames that
    were not skipped, and ``W_g``. In inference the likelier action is taken,
    with no Gumbel noise, and ``forward`` if both are equally likely. (The
    thesis does not say; the authors' code draws at random in its tests,
    too.)

    The thesis gives neither the width of the embedding (as in the authors'
    code it is that of the feature) nor the initial ``W_g``. Ours is near zero
    with a bias to ``forward``, since five policies that begin with a coin
    toss each let 3 % of the frames pass.

    Args:
        in_channels: C of the feature at this place.
        num_classes: Classes of the inner classifier that guides the policy
            in training (section 3.3.3); 0 for a policy without guidance.
        hidden_channels: H, 512 in the thesis.
        embed_channels: E; None is C.
        temporal: False replaces the LSTM by a fully connected layer, as in
            Table 4.4. (With a ReLU, without which three linear maps in a row
            would be one; ours.)
        forward_bias: Initial preference for ``forward``: a frame passes with
            probability ``sigmoid(forward_bias)``.
        temperature: Of the Gumbel-Softmax; annealed by
            ``mmskip.TemperatureHook``.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 0,
        hidden_channels: int = 512,
        embed_channels: int | None = None,
        temporal: bool = True,
        forward_bias: float = 3.0,
        temperature: float = 5.0,
    ) -> None:
        super().__init__()
        embed_channels = (
            in_channels if embed_channels is None else (embed_channels)
        )
        for name, value in (
            ('in_channels', in_channels),
            ('hidden_channels', hidden_channels),
            ('embed_channels', embed_channels),
        ):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f'expected {name} to be a positive int, got {value!r}'
                )
        if not temperature > 0:
            raise ValueError(f'expected temperature > 0, got {temperature!r}')
        check_least(0, num_classes=num_classes)
        self.temporal = temporal
        self.temperature = float(temperature)
        self.hidden_channels = hidden_channels
        self.embedding = nn.Linear(in_channels, embed_channels)
        if temporal:
            self.memory = nn.LSTMCell(embed_channels, hidden_channels)
        else:
            self.memory = nn.Sequential(
                nn.Linear(embed_channels, hidden_channels), nn.ReLU()
            )
        self.gate = nn.Linear(hidden_channels, ACTIONS)
        nn.init.normal_(self.gate.weight, std=1e-3)
        self.gate.bias.data.copy_(torch.tensor([0.0, forward_bias]))
        self.classifier = (
            nn.Linear(hidden_channels, num_classes) if num_classes else None
        )

    @property
    def frame_macs(self) -> int:
        """MACs of one decision; the inner classifier only runs in training."""
        embed, hidden = self.embedding.out_features, self.hidden_channels
        memory = embed * hidden
        if self.temporal:
            memory = 4 * hidden * (embed + hidden)
        return self.embedding.in_features * embed + memory + hidden * ACTIONS

    def initial_state(self, videos: int) -> Tensor:
        """State (B, 2, H) before the first frame of ``videos`` videos."""
        width = self.hidden_channels if self.temporal else 0
        return self.gate.weight.new_zeros(videos, 2, width)

    def embed(self, feature: Tensor) -> Tensor:
        """``W_x AvgPool(x)`` (Eq. 3.1 and the argument of 3.2).

        Args:
            feature: (N, C, ...), or (N, C) if pooled already.

        Returns:
            (N, E).
        """
        if feature.dim() > 2:
            feature = feature.flatten(2).mean(2)
        return self.embedding(feature)

    def step(self, embedded: Tensor, state: Tensor) -> PolicyStep:
        """One frame of each video (Eq. 3.2 and 3.3).

        Args:
            embedded: (B, E).
            state: (B, 2, H) that the last frame not skipped left behind.
        """
        if self.temporal:
            hidden, cell = self.memory(embedded, tuple(state.unbind(1)))
            state = torch.stack([hidden, cell], 1)
        else:
            hidden = self.memory(embedded)
        action = self.gate(hidden)
        return PolicyStep(action[:, 1] - action[:, 0], hidden, state)

    def draw(self, margin: Tensor) -> Tensor:
        """Actions in training (Eq. 3.4): 1 to forward, 0 to stop.

        The Gumbel-Softmax over two actions is the sigmoid of their margin
        with logistic noise, rounded, with a straight-through gradient.
        """
        return sample_gate(margin, self.temperature)

    def forward(self, inputs: Tensor, recalls: bool = False) -> Tensor:
        """Half of a decision in inference; :class:`Judges` join them.

        One half depends on the frame only, the other on the state only,
        which many frames share. MACs are those of a whole step per frame.

        Args:
            inputs: Features (n, C, h, w) of n frames, or ``h`` (n, H) that n
                videos remember.
            recalls: Whether they are the latter.

        Returns:
            What it adds to the gates of the LSTM, (n, 4H); of a policy
            without memory ``h`` (n, H).
        """
        memory = self.memory
        if recalls:
            return functional.linear(inputs, memory.weight_hh, memory.bias_hh)
        if self._ledger is not None:
            overhead = len(inputs) * self.frame_macs
            self._ledger.record(self, 0, 0, overhead=overhead)
        embedded = self.embed(inputs)
        if not self.temporal:
            return memory(embedded)
        return functional.linear(embedded, memory.weight_ih, memory.bias_ih)

    def extra_repr(self) -> str:
        return f'temperature={self.temperature:.3g}'


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
