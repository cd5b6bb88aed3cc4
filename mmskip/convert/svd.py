"""Turn convolutions into two smaller ones each."""

from collections.abc import Collection, Mapping

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from mmskip.layers import (
    SVD_METHODS,
    factorize_conv,
    macs_per_rank,
    split_of,
)
from mmskip.ops import full_rank
from mmskip.registry import MODELS

#: Those that only convolve, with a padding that no input changes.
PLAIN_CLASSES = {nn.Conv2d, nn.Conv3d}
try:
    from mmcv.cnn.bricks import Conv2d, Conv3d
except ImportError:  # mmcv is optional: torch and mmengine suffice
    pass
else:
    PLAIN_CLASSES |= {Conv2d, Conv3d}


@MODELS.register_module()
class SVDConversion:
    """Compress convolutions by a truncated SVD of their kernels.

    The baselines S-SVD and W-SVD of Skip-Convolutions (CVPR 2021), section
    4.2; what they are is told in :class:`mmskip.layers.FactorizedConv`. The
    paper searches ranks greedily with the toolkit AIMET, by the accuracy on
    data; here ``ranks`` may come from :func:`mmskip.convert.choose_ranks`
    (``tools/compress.py``), which needs none. Compose it with another method
    by a list: ``conversions=[SVDConversion, SkipConversion]``.

    Args:
        method: ``spatial`` or ``weight``.
        macs: Every layer gets the largest rank that costs at most this share
            of its MACs (for inputs whose size its stride divides).
        ranks: Instead: the rank of each layer, by name; the others stay.

    Raises:
        ValueError: An option is out of range, or not one of ``macs`` and
            ``ranks`` is given.
    """

    def __init__(
        self,
        method: str = 'spatial',
        macs: float | None = None,
        ranks: Mapping[str, int] | None = None,
    ) -> None:
        if method not in SVD_METHODS:
            raise ValueError(
                f'expected method to be one of {SVD_METHODS}, got {method!r}'
            )
        if (macs is None) == (ranks is None):
            raise ValueError(
                'expected either macs (a share) or ranks (by layer), got '
                f'macs={macs!r} and ranks={ranks!r}'
            )
        if macs is not None and not 0 < macs <= 1:
            raise ValueError(f'expected macs from 0 to 1, got {macs!r}')
        for name, rank in (ranks or {}).items():
            if not isinstance(rank, int) or rank < 1:
                raise ValueError(
                    f'expected a positive int as the rank of {name}, got '
                    f'{rank!r}'
                )
        self.method = method
        self.macs = macs
        self.ranks = None if ranks is None else dict(ranks)

    @property
    def layers(self) -> Collection[str]:
        """Layers that it has settings for."""
        return () if self.ranks is None else self.ranks

    def concerns(self, module: nn.Module) -> bool:
        """Whether a module is of a kind that this conversion is about."""
        return isinstance(module, (_ConvNd, nn.Linear))

    def refusal(self, name: str, module: nn.Module) -> str | None:
        """Why a layer stays as it is, None if it can be converted."""
        reason = refuse_svd(module, self.method)
        if reason is not None:
            return reason
        if self.ranks is not None and name not in self.ranks:
            return 'no rank is given for it'
        rank = self._rank(name, module)
        if not rank:
            return f'rank 1 costs more than macs={self.macs} of it'
        most = full_rank(module.weight.shape, split_of(module, self.method))
        if rank > most:
            return f'its full rank is {most}, less than {rank}'
        return None

    def apply(self, name: str, module: nn.Module) -> None:
        """Convert one layer in place; hooks and name stay."""
        factorize_conv(module, self.method, self._rank(name, module))

    def _rank(self, name: str, conv: nn.Module) -> int:
        if self.ranks is not None:
            return self.ranks[name]
        axes = len(conv.kernel_size)
        # Each output position stands for `stride` ones of the input.
        inputs = (1, conv.in_channels, *conv.stride)
        outputs = (1, conv.out_channels, *[1] * axes)
        each = macs_per_rank(conv, self.method, inputs, outputs)
        most = full_rank(conv.weight.shape, split_of(conv, self.method))
        return min(int(self.macs * conv.weight.numel() / each), most)


def refuse_svd(module: nn.Module, method: str) -> str | None:
    """Why a layer cannot be factorised, None if it can."""
    if isinstance(module, nn.Linear):
        return 'not a convolution'
    if isinstance(module, _ConvTransposeNd):
        return 'transposed convolution'
    if 'forward' in module.__dict__:
        return 'its forward is replaced on the instance'
    if type(module) not in PLAIN_CLASSES:
        return (
            f'{type(module).__name__} is not a class known to only convolve, '
            'with a fixed padding'
        )
    if 'weight' not in module._parameters:
        return 'its weight is computed from others'
    if module.groups > 1:
        return 'grouped: its kernel is several small matrices'
    if method == 'spatial' and module.weight.dim() != 4:
        return "not of images (method='weight' converts it)"
    return None
