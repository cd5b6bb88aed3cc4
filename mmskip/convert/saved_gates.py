"""Are the learned gates of a checkpoint those of the model?

mmengine loads what fits, warns of the rest and goes on: with gates that were
never trained, or without those that were.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from mmskip.layers import Converted
from mmskip.runtime import InputError

_GATE = re.compile(r'(.+)\.gate\..+')
_WRAPPER = 'module.'


def check_gates(
    model: nn.Module, saved: Mapping[str, Tensor], path: str
) -> bool:
    """Check that weights have either no learned gate or the model's.

    Args:
        model: The model that they are loaded into, wrapped or not.
        saved: The weights.
        path: What the message calls them.

    Returns:
        Whether the weights leave the model's gates as they are: it has
        gates, they have none.

    Raises:
        InputError: Gates of other layers or shapes, or of a model that has
            no learned gates.
    """
    saved = {name.removeprefix(_WRAPPER): v for name, v in saved.items()}
    found = {k: v.shape for k, v in saved.items() if _is_gate(k, saved)}
    own = {
        f'{name}.gate.{key}'.removeprefix(_WRAPPER): value.shape
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, Converted) and hasattr(module, 'gate')
        for key, value in module.gate.state_dict().items()
    }
    if not found:
        return bool(own)
    remedy = (
        'convert the model with the gate, include and exclude of the training '
        '(to drop learned gates on purpose, remove the keys *.gate.* from '
        'the file)'
    )
    if found.keys() != own.keys():
        raise InputError(
            f'expected the learned gates of the model in {path}: '
            f'{_some(own.keys() - found.keys())} of the model are not in it, '
            f'{_some(found.keys() - own.keys())} in it are not in the model; '
            f'{remedy}'
        )
    for key, shape in own.items():
        if found[key] != shape:
            raise InputError(
                f'expected {key} of shape {tuple(shape)} in {path}, got '
                f'{tuple(found[key])}; {remedy}'
            )
    return False


def _is_gate(key: str, saved: Mapping[str, Tensor]) -> bool:
    """Other networks have parts called gate, but not in a convolution."""
    match = _GATE.fullmatch(key)
    return bool(match) and f'{match[1]}.weight' in saved


def _some(keys: Iterable[str]) -> str:
    """How many gates, and the first of them."""
    layers = sorted({_GATE.fullmatch(key)[1] for key in keys})
    return f'{len(layers)} ({layers[0]}, ...)' if layers else 'none'
