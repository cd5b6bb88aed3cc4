"""Are the factors of a checkpoint those of the model?

mmengine loads what fits, warns of the rest and goes on: with factors of
random weights where the ranks differ.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mmskip.layers import FactorizedConv, split_of
from mmskip.runtime import InputError

_FIRST, _SECOND = '.first.weight', '.second.weight'
_WRAPPER = 'module.'
_REMEDY = (
    'use the config that was written or trained with the checkpoint (an '
    'SVDConversion of the same method and ranks), or plain weights'
)


def check_factors(
    model: nn.Module, saved: Mapping[str, Tensor], path: str
) -> None:
    """Check that weights have plain kernels, or the model's factors.

    Args:
        model: The model that they are loaded into, wrapped or not.
        saved: The weights.
        path: What the message calls them.

    Raises:
        InputError: Factors of another rank or method, or of layers that the
            model has whole.
    """
    saved = {name.removeprefix(_WRAPPER): v for name, v in saved.items()}
    modules = {
        name.removeprefix(_WRAPPER): module
        for name, module in model.named_modules(remove_duplicate=False)
    }
    for key, value in saved.items():
        name = key.removesuffix(_FIRST)
        if name == key or f'{name}{_SECOND}' not in saved:
            continue
        module = modules.get(name)
        if isinstance(module, FactorizedConv):
            _compare(name, module, value.shape, path)
        elif isinstance(module, _ConvNd):
            raise InputError(
                f'expected the weights of {name} in {path}, got two factors: '
                f'they are of a compressed model, this one is not; {_REMEDY}'
            )


def _compare(
    name: str, module: FactorizedConv, found: tuple[int, ...], path: str
) -> None:
    axes = len(module.kernel_size)
    split = split_of(module, module.method)
    kernel = (*module.kernel_size[:split], *[1] * (axes - split))
    shape = (module.rank, module.in_channels, *kernel)
    if tuple(found) != shape:
        raise InputError(
            f'expected the first factor of {name} of shape {shape} (rank '
            f'{module.rank}, method {module.method!r}) in {path}, got '
            f'{tuple(found)}; {_REMEDY}'
        )
