"""Policies of SoF-Net, which stop a frame at a stage or forward it.

Behind them are the losses that train them, section 3.3: guidance (3.3.3)
teaches policies what a frame is good for, efficiency what it costs to forward
it. There ``g`` are the actions, ``p`` the answers of the inner classifiers and
``y`` the labels of K classes.

S. J. Hyeon, "Dynamic layer skipping for efficient action recognition", M.S.
thesis, Seoul National University, 2023, section 3.2. Symbols: n a place where
a policy sits, N of them, t a frame, B videos, C channels of the feature at a
place, E of its embedding, H of the hidden state.

:class:`StopOrForwardHead` is the policy of one place, as it is trained;
:class:`StackedPolicies` runs those of all places at once, in inference.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmskip.core import CountedWhole, sample_gate
from mmskip.native import PackedKernels
from mmskip.options import check_least
from mmskip.registry import MODELS

ACTIONS = 2  # stop, forward
UNITS = ('gmac', 'share')
GIGA = 1e9


class PolicyStep(NamedTuple):
    """Holds the decision of one policy on one frame of each video.

    Attributes:
        margin: (B,), preference for ``forward`` over ``stop``: the
            difference of the two entries of ``q`` (Eq. 3.3).
        hidden: ``h`` (B, H) of Eq. 3.2.
        state: Recurrent state that the next frame of a video starts from if
            this one is not skipped: (B, 2, H), hidden and cell state;
            (B, 2, 0) for a policy without memory.
    """

    margin: Tensor
    hidden: Tensor
    state: Tensor


@MODELS.register_module()
class StopOrForwardHead(CountedWhole):
    """Decides at one place of the backbone if a frame goes on (Eq. 3.1-3.4).

    It consists of average pooling, an embedding ``W_x``, one LSTM cell over
    the frames that were not skipped, and ``W_g``. In inference the likelier
    action is taken, with no Gumbel noise, and ``forward`` if both are equally
    likely. (The thesis does not say; the authors' code draws at random in its
    tests, too.)

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
        temperature: Temperature of the Gumbel-Softmax, which
            ``mmskip.TemperatureHook`` anneals.

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
        if embed_channels is None:
            embed_channels = in_channels
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
        memory = embed_channels * hidden_channels
        if temporal:
            memory = 4 * hidden_channels * (embed_channels + hidden_channels)
        gate = hidden_channels * ACTIONS
        #: MACs of one decision, without the classifier used in training.
        self.frame_macs = in_channels * embed_channels + memory + gate
        self._packed: PackedKernels | None = None

    @torch.no_grad()
    def join(self) -> None:
        """Make one layer of the embedding and what reads it, in place.

        Nothing lies between these two linear maps. It computes the same in
        half of the time, for inference; MACs stay those of the two. There is
        no way back.
        """
        if isinstance(self.embedding, nn.Identity):
            return
        owner, names = self.memory, ('weight_ih', 'bias_ih')
        if not self.temporal:
            owner, names = self.memory[0], ('weight', 'bias')
        weight, bias = (getattr(owner, name) for name in names)
        bias = bias + weight @ self.embedding.bias
        weight = weight @ self.embedding.weight
        for name, value in zip(names, (weight, bias), strict=True):
            setattr(owner, name, nn.Parameter(value))
        self.embedding = nn.Identity()
        self._packed = PackedKernels()

    def initial_state(self, videos: int) -> Tensor:
        """Make the recurrent state (B, 2, H) before the first frame."""
        width = self.hidden_channels if self.temporal else 0
        return self.gate.weight.new_zeros(videos, 2, width)

    def embed(self, feature: Tensor) -> Tensor:
        """Embed features, ``W_x AvgPool(x)`` (Eq. 3.1, inside Eq. 3.2).

        Args:
            feature: (N, C, ...), or (N, C) if pooled already.

        Returns:
            (N, E).
        """
        if feature.dim() > 2:
            feature = feature.flatten(2).mean(2)
        return self.embedding(feature)

    def step(self, embedded: Tensor, state: Tensor) -> PolicyStep:
        """Decide on one frame of each video (Eq. 3.2 and 3.3).

        Args:
            embedded: (B, E).
            state: Recurrent state (B, 2, H) behind the last frame that was
                not skipped.
        """
        if self.temporal:
            hidden, cell = self.memory(embedded, tuple(state.unbind(1)))
            state = torch.stack([hidden, cell], 1)
        else:
            hidden = self.memory(embedded)
        action = self.gate(hidden)
        return PolicyStep(action[:, 1] - action[:, 0], hidden, state)

    def draw(self, margin: Tensor) -> Tensor:
        """Draw actions in training (Eq. 3.4): 1 to forward, 0 to stop.

        The Gumbel-Softmax over two actions is the sigmoid of their margin
        with logistic noise, rounded, with a straight-through gradient.
        """
        return sample_gate(margin, self.temperature)

    def forward(self, inputs: Tensor, recurrent: bool = False) -> Tensor:
        """Compute one half of a decision in inference.

        One half depends on the frame only, the other on the recurrent state
        only, which many frames share; :class:`StackedPolicies` joins them.
        MACs are those of a whole step per frame.

        Args:
            inputs: Features (n, C, h, w) of n frames, or the hidden state
                (n, H) of n videos.
            recurrent: True for the hidden state.

        Returns:
            The summand of the LSTM's gates, (n, 4H); for a policy without
            memory ``h`` (n, H).
        """
        memory = self.memory
        if recurrent:
            return functional.linear(inputs, memory.weight_hh, memory.bias_hh)
        if self._ledger is not None:
            overhead = len(inputs) * self.frame_macs
            self._ledger.record(self, 0, 0, overhead=overhead)
        embedded = self.embed(inputs)
        if not self.temporal:
            return memory(embedded)
        linear = self._packed.linear if self._packed else functional.linear
        return linear(embedded, memory.weight_ih, memory.bias_ih)

    def extra_repr(self) -> str:
        return f'temperature={self.temperature:.3g}'


class RecurrentState(NamedTuple):
    """Keeps what N policies remember about the past of B videos.

    Attributes:
        gates: Summand (N, B, 4H) of the LSTM's gates, which depends on the
            hidden state only; (N, B, 0) for policies without memory.
        cell: Cell state (N, B, H); (N, B, 0) for policies without memory.
    """

    gates: Tensor
    cell: Tensor


class PolicyDecision(NamedTuple):
    """Holds the decisions of N policies on n frames of each of B videos.

    Attributes:
        margin: Preference for ``forward``, (N, B, n).
        hidden: ``h`` (N, B, n, H).
        cell: (N, B, n, H); (N, B, n, 0) without memory.
    """

    margin: Tensor
    hidden: Tensor
    cell: Tensor


class StackedPolicies:
    """Runs :meth:`StopOrForwardHead.step` at all N places in one go.

    Their tensors are small: calling an operator takes longer than its work.

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

    def initial_state(self, videos: int) -> RecurrentState:
        """Make the state before the first frame of ``videos`` videos."""
        places, width = len(self.policies), 0
        if self._temporal:
            width = self.policies[0].hidden_channels
        nothing = self._weight.new_zeros(places, videos, width)
        return self._state_of(nothing, nothing)

    def update(
        self,
        state: RecurrentState,
        decision: PolicyDecision,
        videos: Sequence[int],
        frames: Sequence[int],
    ) -> None:
        """Go on from frames that no policy skipped, one for some videos.

        Args:
            state: State of all videos; changed in place.
            decision: Decision on these frames and others.
            videos: Indices of the videos that the frames belong to.
            frames: Indices of the frames in the decision.
        """
        if not self._temporal:
            return
        rows = slice(None), videos, frames
        new = self._state_of(decision.hidden[rows], decision.cell[rows])
        state.gates[:, videos] = new.gates
        state.cell[:, videos] = new.cell

    def decide(
        self,
        projected: Tensor,
        state: RecurrentState,
        places: slice = slice(None),
    ) -> PolicyDecision:
        """Decide on n frames of each video that follow the same past.

        Args:
            projected: (N, B, n, P), the frames' half of the decisions, see
                :meth:`StopOrForwardHead.forward`.
            state: Recurrent state of the B videos.
            places: Range of the policies, if they are not all.
        """
        hidden, cell = projected, projected[..., :0]
        if self._temporal:
            gates = projected + state.gates[:, :, None]
            take, keep, new, show = gates.chunk(4, -1)
            cell = keep.sigmoid() * state.cell[:, :, None]
            cell = torch.addcmul(cell, take.sigmoid(), new.tanh())
            hidden = show.sigmoid() * cell.tanh()
        margin = (hidden * self._weight[places]).sum(-1) + self._bias[places]
        return PolicyDecision(margin, hidden, cell)

    def _state_of(self, hidden: Tensor, cell: Tensor) -> RecurrentState:
        if not self._temporal:
            return RecurrentState(hidden, cell)
        gates = [
            policy(h, recurrent=True)
            for policy, h in zip(self.policies, hidden, strict=True)
        ]
        return RecurrentState(torch.stack(gates), cell.clone())


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
    return functional.binary_cross_entropy_with_logits(
        margins[..., :-1], targets
    )


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
