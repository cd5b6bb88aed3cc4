"""Hooks on a model's forward that neither copies nor pickles carry along."""

from collections.abc import Callable
from typing import Any

from torch import nn


def _nothing(*_: Any) -> None:
    """What a copied hook does."""


class TransientHook:
    """A module hook that turns into nothing when its module is copied.

    Deep copies and pickles of a model take its hooks with them; ours would
    drag a stream's memory along and act on the wrong model.

    Args:
        function: Called with the hook's arguments.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def __call__(self, *args: Any) -> None:
        self.function(*args)

    def __reduce__(self) -> tuple:
        return TransientHook, (_nothing,)


def around_forward(
    module: nn.Module,
    before: Callable[..., None],
    after: Callable[..., None],
) -> list:
    """Call ``before`` and ``after`` around every forward of a module.

    ``after`` is called when the forward raises, too.

    Args:
        module: The module to watch.
        before: Takes (module, inputs).
        after: Takes (module, inputs, output).

    Returns:
        Two handles with ``remove()``.
    """
    return [
        module.register_forward_pre_hook(TransientHook(before)),
        module.register_forward_hook(TransientHook(after), always_call=True),
    ]
