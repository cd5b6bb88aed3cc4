"""What learned gates are expected to let through, and what they do."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmskip.layers import SkipConvMixin, dense_macs
from mmskip.ops import SkipMemory
from mmskip.runtime import StreamState


@dataclass
class GateShares:
    """MACs of a layer outside reference frames, summed over frames.

    Attributes:
        dense: With all gates open.
        expected: By the probabilities of the gates, which are what the
            efficiency loss weighs in training (Skip-Conv, Eq. 9).
        drawn: By one draw from them, as in training.
        measured: By what was computed in inference. With the accumulated
            memory these are fewer outputs than the gates chose: only those
            that a transmitted input reaches.
    """

    dense: float = 0.0
    expected: float = 0.0
    drawn: float = 0.0
    measured: float = 0.0

    def add(self, dense: int, **shares: Tensor) -> None:
        """Count one call: its dense MACs, and shares of them."""
        self.dense += dense
        for name, share in shares.items():
            new = getattr(self, name) + dense * float(share)
            setattr(self, name, new)

    def share(self, name: str) -> float:
        """A sum as a share of ``dense``; 0 if there is nothing."""
        return getattr(self, name) / self.dense if self.dense else 0.0


class GateWatch:
    """Watches the learned gates of a converted model in a stream.

    Args:
        model: The model, in eval mode; one image per forward and stream.

    Attributes:
        layers: Of each layer with a learned gate.

    Raises:
        ValueError: The model has no learned gate.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers: dict[str, GateShares] = {}
        self._model = model
        self._names = {
            module: name
            for name, module in model.named_modules()
            if isinstance(module, SkipConvMixin)
            and module.gate.kind == 'learned'
        }
        if not self._names:
            raise ValueError(
                'expected a model with learned gates, got '
                f'{type(model).__name__} without any; convert it with '
                "gate=dict(type='mmskip.GumbelGate')"
            )
        self._calls: Counter[nn.Module] = Counter()
        self._before: SkipMemory | None = None

    @contextmanager
    def watch(self, state: StreamState) -> Iterator[None]:
        """Count what the gates do in a stream while the block runs.

        Args:
            state: Of the stream that the model is in.
        """

        def enter(layer: SkipConvMixin, inputs: tuple) -> None:
            site = (self._names[layer], self._calls[layer])
            memory = state.slots.get(site)
            self._before = None if memory is None else memory.clone()

        def leave(layer: SkipConvMixin, inputs: tuple, output: Any) -> None:
            site = (self._names[layer], self._calls[layer])
            self._calls[layer] += 1
            mask = state.last_masks()[site]
            self._count(layer, inputs[0], output, mask)

        def begin(*_: Any) -> None:
            self._calls.clear()

        handles = [self._model.register_forward_pre_hook(begin)]
        for layer in self._names:
            handles.append(layer.register_forward_pre_hook(enter))
            handles.append(layer.register_forward_hook(leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def total(self) -> GateShares:
        """Of all layers."""
        total = GateShares()
        for layer in self.layers.values():
            for name, value in vars(layer).items():
                setattr(total, name, getattr(total, name) + value)
        return total

    @torch.no_grad()
    def _count(
        self, layer: SkipConvMixin, x: Tensor, output: Tensor, mask: Tensor
    ) -> None:
        before = self._before
        if before is None or not before.fits(x):
            return  # a reference frame: no gate is asked
        drawn, probability = layer.gate.draw(
            x - before.input,
            x,
            before.scale,
            layer.geometry(x),
            layer.weight.shape[2:],
        )
        self.layers.setdefault(self._names[layer], GateShares()).add(
            dense_macs(layer, output.shape),
            expected=probability.mean(),
            drawn=drawn.mean(),
            measured=mask.float().mean(),
        )
