"""Loading weights that are the model's, and refusing others.

mmengine loads what fits, writes the rest into a warning and goes on: a model
whose backbone is random is tested as if it were trained.
"""

import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from mmskip.compression.svd import check_factors
from mmskip.core import Converted
from mmskip.core.convert import check_gates

from .errors import UserError, one_line

_WRAPPER = 'module.'
# Buffers that a model cannot make itself.
_LEARNED_BUFFERS = ('running_mean', 'running_var')
_NAMED = 3
_ANOTHER = 'is it the checkpoint of another config?'


def load_weights(
    model: nn.Module,
    checkpoint: dict[str, Any],
    path: str,
    tuning: bool = False,
) -> bool:
    """Load the weights of a checkpoint if they are those of a model.

    Every parameter and every running statistic has to be there, of the
    model's shape and finite. What a conversion adds to the layers of a plain
    checkpoint may be missing, and so may buffers that the model makes
    itself.

    Args:
        model: It is loaded into this one, wrapped or not.
        checkpoint: What the file holds.
        path: What messages call it.
        tuning: To train from other weights: what is missing or has another
            shape, as the head of other classes, is counted in a warning.

    Returns:
        Whether the model has learned gates and the checkpoint none.

    Raises:
        UserError: The weights are not the model's, or not finite.
        InputError: Its learned gates or factors are not those of the model.
    """
    model = unwrap_fully(model)
    saved = weights_of(checkpoint, path)
    known = model.state_dict()
    if known.keys().isdisjoint(saved):
        raise UserError(
            f'no weight in {path} belongs to the model of the config '
            f'({type(model).__name__}); its first key is '
            f'{next(iter(saved), None)!r}: {_ANOTHER}'
        )
    check_factors(model, saved, path)
    is_untrained = check_gates(model, saved, path)
    check_finite(model, saved, path)
    added = set(keys_of_conversions(model)) if is_untrained else set()
    learned = set(keys_to_learn(model)) - added
    try:
        missing, misshapen = _load(model, saved)
    except RuntimeError as error:
        raise UserError(
            f'{path} cannot be loaded into the model of the config '
            f'({type(model).__name__}): {one_line(error)}'
        ) from error
    missing = [key for key in missing if key in learned]
    if missing or misshapen:
        _tell_misfit(model, path, len(learned), missing, misshapen, tuning)
    return is_untrained


def warn_of_unused(
    model: nn.Module, checkpoint: dict[str, Any], path: str
) -> None:
    """Count in a warning what a checkpoint has beyond a model."""
    known = unwrap_fully(model).state_dict()
    unused = [key for key in weights_of(checkpoint, path) if key not in known]
    if unused:
        print_log(
            f'{path}: {len(unused):,} weights in it have other names than '
            f'those of the model ({some(unused)})',
            'current',
            logging.WARNING,
        )


def weights_of(checkpoint: Any, path: str) -> OrderedDict[str, Tensor]:
    """Return the weights in a checkpoint, named as without a wrapper.

    Raises:
        UserError: There are none.
    """
    is_dict = isinstance(checkpoint, dict)
    saved = checkpoint.get('state_dict', checkpoint) if is_dict else checkpoint
    if not isinstance(saved, dict) or not all(
        isinstance(key, str) for key in saved
    ):
        raise UserError(
            f'no weights in {path}: expected a dict from names to tensors, '
            f'got {type(saved).__name__}'
        )
    weights = OrderedDict(
        (key.removeprefix(_WRAPPER), value) for key, value in saved.items()
    )
    weights._metadata = getattr(saved, '_metadata', OrderedDict())
    return weights


def unwrap_fully(model: nn.Module) -> nn.Module:
    """Return the model that weights go into, without what is around it."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def keys_to_learn(model: nn.Module) -> Iterator[str]:
    """Yield the keys of parameters and of statistics of batch norms."""
    for name, _ in model.named_parameters(remove_duplicate=False):
        yield name
    for name, _ in model.named_buffers(remove_duplicate=False):
        if name.endswith(_LEARNED_BUFFERS):
            yield name


def keys_of_conversions(model: nn.Module) -> Iterator[str]:
    """Yield the keys of what conversions add: gates, cheap maps."""
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Converted) and hasattr(module, 'gate'):
            for key in module.state_dict():
                if '.' in key:
                    yield f'{name}.{key}'


def check_finite(
    model: nn.Module, saved: dict[str, Tensor], path: str
) -> None:
    """Refuse NaN and infinity in weights, under whatever names they are.

    A mask among the buffers may hold the negative infinity.

    Raises:
        UserError: There are some.
    """
    learned = set(keys_to_learn(model))

    def is_finite(key: str, value: Tensor) -> bool:
        right = value.isfinite()
        if key not in learned:
            right |= value == -torch.inf
        return bool(right.all())

    wrong = [
        key
        for key, value in saved.items()
        if isinstance(value, Tensor) and not is_finite(key, value)
    ]
    if wrong:
        raise UserError(
            f'{path}: {len(wrong):,} weights in it are not finite '
            f'({some(wrong)}): the training that wrote it had diverged; use '
            'an earlier checkpoint'
        )


def some(keys: Iterable[str]) -> str:
    """Name the first of some keys."""
    keys = list(keys)
    more = ', ...' if len(keys) > _NAMED else ''
    return ', '.join(keys[:_NAMED]) + more if keys else 'none'


def _tell_misfit(
    model: nn.Module,
    path: str,
    total: int,
    missing: list[str],
    misshapen: list[str],
    tuning: bool,
) -> None:
    """Refuse a checkpoint that does not fit; warn, if it is tuned from."""
    if not tuning:
        raise UserError(
            f'{path} does not fit the model of the config '
            f'({type(model).__name__}): of its {total:,} weights '
            f'{len(missing):,} are not in the file ({some(missing)}) and '
            f'{len(misshapen):,} have another shape ({some(misshapen)}); '
            f'{_ANOTHER} To train from what fits, give it to tools/train.py '
            'as load_from'
        )
    print_log(
        f'{path}: of {total:,} weights of the model {len(missing):,} are '
        f'not in it and {len(misshapen):,} have another shape '
        f'({some([*missing, *misshapen])}): they begin untrained',
        'current',
        logging.WARNING,
    )


def _load(
    model: nn.Module, saved: OrderedDict[str, Tensor]
) -> tuple[list[str], list[str]]:
    """Load what fits; returns the keys that are missing or of other shape.

    By torch's own loading, which knows the layers that take weights of
    another form.
    """
    try:
        return model.load_state_dict(saved, strict=False).missing_keys, []
    except RuntimeError as error:
        names = re.findall(r'size mismatch for (\S+):', str(error))
        misshapen = [name for name in names if name in saved]
        if not misshapen:
            raise
    fitting = saved.copy()
    fitting._metadata = saved._metadata
    for name in misshapen:
        del fitting[name]
    missing, again = _load(model, fitting)
    return [key for key in missing if key not in misshapen], misshapen + again
