"""The likeness of feature maps, layer by layer (VA-RED^2, appendix B).

B. Pan, "Dynamic Neural Network for Efficient Video Recognition", M.S.
thesis, MIT, 2023, appendix B.1. A map is what one channel shows in one
frame, of H x W values. Two maps are compared along time (one channel, two
frames) and along channels (one frame, two channels), by Pearson's
correlation coefficient (CC) and the root of their mean squared difference
(RMSE), in the units of the maps.

What the thesis leaves open, and we chose:

- It counts as redundant what has "both CC and RMSE above" 0.85 and 0.001.
  High similarity is a large CC, but a small RMSE. Below 0.001 is hardly any
  pair of its table, whose RMSE is 0.1 on average while its redundancy
  proportion (RP) is 0.4 to 0.7. So ``rp`` takes the sentence at its word,
  where the RMSE leaves out maps that are equal, such as those of dead
  channels; ``rp_close`` asks for an RMSE below 0.001.
- RP is a share of pairs, not of maps that are like any other one.
- Maps of one value have no CC; their pairs count in the RMSE alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mmskip.va_red2 import (
    DynamicConvMixin,
    force_routing,
    option_sizes,
    record_routing,
)

FIGURES = ('cc', 'rmse', 'rp', 'rp_close')
AXES = ('time', 'channels')
# Values of a float64 matrix of pairs that are held at a time.
MOST_PAIRS = 4_000_000


class LayerMaps(NamedTuple):
    """The feature maps that a layer computed for one sample.

    Attributes:
        full: (C, T, H, W), all features computed, from the same input.
        mixed: (C, T, H, W), as its gate wanted it. T is 1 for a layer of
            images.
        channels: (C,) bool, which were computed.
        frames: (T,) bool, which were computed.
    """

    full: Tensor
    mixed: Tensor
    channels: Tensor
    frames: Tensor


def dynamic_layers(model: nn.Module) -> list[str]:
    """List the names of the dynamic convolutions of a model.

    Raises:
        ValueError: There is none.
    """
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, DynamicConvMixin)
    ]
    if not names:
        raise ValueError(
            'expected a model with dynamic convolutions, got '
            f'{type(model).__name__} without any; convert it with '
            'mmskip.DynamicConversion'
        )
    return names


def capture_maps(
    model: nn.Module, layer: str, run: Callable[[], Any], sample: int = 0
) -> LayerMaps:
    """Run a model and keep what one of its layers gave for one sample.

    Args:
        model: In eval mode.
        layer: Name of a dynamic convolution.
        run: Runs the model once.
        sample: Row of the layer's batch: a view; a frame for a layer of
            images.

    Raises:
        ValueError: There is no such layer or sample.
    """
    known = dynamic_layers(model)
    if layer not in known:
        raise ValueError(
            f'expected a dynamic convolution, got {layer!r}; there are '
            f'{", ".join(known)}'
        )
    module = model.get_submodule(layer)
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, inputs: tuple, output: Tensor) -> None:
        seen.append((inputs[0], output))

    with record_routing(model) as record:
        handle = module.register_forward_hook(keep)
        try:
            run()
        finally:
            handle.remove()
    routing = record.by_layer()[layer]
    inputs, outputs = (torch.cat(parts) for parts in zip(*seen, strict=True))
    if not 0 <= sample < len(inputs):
        raise ValueError(
            f'expected one of {len(inputs)} samples of {layer}, got {sample}'
        )
    with force_routing(model), torch.no_grad():
        full = module(inputs[sample : sample + 1])[0]
    mixed = outputs[sample]
    if mixed.dim() == 3:
        full, mixed = full.unsqueeze(1), mixed.unsqueeze(1)
    option = int(routing.channels[sample])
    count = option_sizes(len(mixed), option + 1)[option]
    stride = 2 ** int(routing.time[sample])
    return LayerMaps(
        full.cpu(),
        mixed.cpu(),
        torch.arange(len(mixed)) < count,
        torch.arange(mixed.shape[1]) % stride == 0,
    )


class Thresholds(NamedTuple):
    """The CC and the RMSE from which on two maps count as redundant."""

    cc: float
    rmse: float


@dataclass
class Similarity:
    """Means over samples, and the range of the samples' means.

    Attributes:
        sums, counts, lowest, highest: By figure, see ``FIGURES``.
    """

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    lowest: dict[str, float] = field(default_factory=dict)
    highest: dict[str, float] = field(default_factory=dict)

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """Add figures of samples, shape (N,); NaN where there is none."""
        for name, values in figures.items():
            values = values[~values.isnan()]
            if not len(values):
                continue
            low, high = float(values.min()), float(values.max())
            self.sums[name] = self.sums.get(name, 0.0) + float(values.sum())
            self.counts[name] = self.counts.get(name, 0) + len(values)
            self.lowest[name] = min(self.lowest.get(name, low), low)
            self.highest[name] = max(self.highest.get(name, high), high)

    def mean(self, name: str) -> float:
        """Return the mean of a figure over the samples; NaN without any."""
        count = self.counts.get(name, 0)
        return self.sums[name] / count if count else float('nan')


def compare_maps(
    maps: Tensor, thresholds: Thresholds
) -> dict[str, tuple[Tensor, Tensor]]:
    """Compare every two maps of each group.

    Args:
        maps: (G, M, S): groups, maps of each, values of each.
        thresholds: From which on two maps are redundant.

    Returns:
        By figure, its sum over the pairs of each group and the number of
        pairs that have it, both (G,).
    """
    maps = maps.double()
    values = maps.shape[2]
    upper = torch.ones(maps.shape[1], maps.shape[1]).triu(1).bool()
    upper = upper.to(maps.device)
    mean = maps.mean(2, keepdim=True)
    centred = maps - mean
    product = centred @ centred.mT
    square = product.diagonal(dim1=1, dim2=2)
    shift = (mean - mean.mT) ** 2
    difference = square[:, :, None] + square[:, None] - 2 * product
    rmse = (difference.clamp_min(0) / values + shift)[:, upper].sqrt()
    norm = square.sqrt()
    # One value but for rounding.
    flat = norm <= 1e-6 * maps.norm(dim=2)
    scale = norm[:, :, None] * norm[:, None]
    known = ~(flat[:, :, None] | flat[:, None])[:, upper]
    cc = (product / scale)[:, upper].clamp(-1, 1).where(known, 0)
    alike = known & (cc > thresholds.cc)
    everything = torch.ones_like(rmse)
    return dict(
        cc=(cc.sum(1), known.sum(1)),
        rmse=(rmse.sum(1), everything.sum(1)),
        rp=((alike & (rmse > thresholds.rmse)).sum(1), everything.sum(1)),
        rp_close=(
            (alike & (rmse < thresholds.rmse)).sum(1),
            everything.sum(1),
        ),
    )


class RedundancyMeter:
    """Measures feature maps as they come and keeps sums alone.

    Args:
        cc: From which correlation on two maps are redundant.
        rmse: The threshold of the RMSE.
        most_positions: Of larger maps as many positions of a regular grid
            are compared; None compares all. Means and shares then are
            estimates, the memory is bounded either way.

    Attributes:
        layers: By layer and axis.

    Raises:
        ValueError: A map needs at least two positions.
    """

    def __init__(
        self,
        cc: float = 0.85,
        rmse: float = 0.001,
        most_positions: int | None = 1024,
    ) -> None:
        if most_positions is not None and most_positions < 2:
            raise ValueError(
                f'expected most_positions >= 2, got {most_positions}'
            )
        self.thresholds = Thresholds(cc, rmse)
        self.most_positions = most_positions
        self.layers: dict[str, dict[str, Similarity]] = {}

    def add(self, layer: str, maps: Tensor) -> None:
        """Measure the output of a layer.

        Args:
            layer: Its name.
            maps: (N, C, T, H, W). An axis of one is left out, as are maps
                of one position.
        """
        maps = maps.detach().flatten(3)
        step = 1
        if self.most_positions is not None:
            step = -(-maps.shape[3] // self.most_positions)
        maps = maps[..., ::step]
        if maps.shape[3] < 2:
            return
        axes = self.layers.setdefault(layer, {})
        views = dict(time=maps, channels=maps.transpose(1, 2))
        for axis, view in views.items():
            if view.shape[2] > 1:
                similarity = axes.setdefault(axis, Similarity())
                for sample in view:
                    similarity.add(self._measure(sample))

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per axis and layer, and one for the mean over layers.

        Returns:
            ``axis``, ``layer``, the figures, and ``<figure>_min`` and
            ``<figure>_max``, the range over the samples. The last rows have
            the layer ``mean``: every layer counts the same.
        """
        rows = []
        for axis in AXES:
            found = []
            for layer, axes in self.layers.items():
                if axis not in axes:
                    continue
                row: dict[str, Any] = dict(axis=axis, layer=layer)
                for name in FIGURES:
                    row[name] = axes[axis].mean(name)
                    nothing = float('nan')
                    row[f'{name}_min'] = axes[axis].lowest.get(name, nothing)
                    row[f'{name}_max'] = axes[axis].highest.get(name, nothing)
                found.append(row)
            rows += found
            if found:
                rows.append(_mean_row(axis, found))
        return rows

    def _measure(self, groups: Tensor) -> dict[str, Tensor]:
        """Compute the figures of one sample, (1,), from groups (G, M, S)."""
        size = max(1, MOST_PAIRS // groups.shape[1] ** 2)
        parts = [
            compare_maps(part, self.thresholds) for part in groups.split(size)
        ]
        figures = {}
        for name in FIGURES:
            total = sum(part[name][0].sum() for part in parts)
            count = sum(part[name][1].sum() for part in parts)
            figures[name] = (total / count).reshape(1).cpu()
        return figures


@contextmanager
def watch_feature_maps(
    model: nn.Module, meter: RedundancyMeter, frames: int | None = None
) -> Iterator[None]:
    """Measure the outputs of all convolutions while the block runs.

    Args:
        model: Any recogniser.
        meter: Measures them.
        frames: Frames of a clip, for models that see each on its own: their
            convolutions have batches of clips times frames, clip by clip.
            None leaves out 2-D convolutions.

    Raises:
        ValueError: The model has no convolution that can be measured.
    """

    def look(name: str, module: nn.Module, inputs: Any, maps: Tensor) -> None:
        if maps.dim() == 4:
            maps = maps.unflatten(0, (-1, frames)).transpose(1, 2)
        meter.add(name, maps)

    dims = (4, 5) if frames is not None else (5,)
    handles = [
        module.register_forward_hook(partial(look, name))
        for name, module in model.named_modules()
        if isinstance(module, _ConvNd) and module.weight.dim() in dims
    ]
    if not handles:
        raise ValueError(
            f'expected a model with {"2-D or " * (len(dims) > 1)}3-D '
            f'convolutions, got {type(model).__name__} without any; give the '
            'number of frames of a clip if it sees each frame on its own'
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mean_row(axis: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean over layers of every column; NaN is left out."""
    keys = [key for key in rows[0] if key not in ('axis', 'layer')]
    table = torch.tensor([[row[key] for key in keys] for row in rows])
    mean = table.double().nanmean(0).tolist()
    return dict(axis=axis, layer='mean', **dict(zip(keys, mean, strict=True)))
