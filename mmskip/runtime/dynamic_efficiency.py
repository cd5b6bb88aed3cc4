"""Add what dynamic convolutions cost to a model's losses."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmskip.layers import DynamicConvMixin, DynamicCost, follow_mode

from .errors import InputError

DynamicLoss = Callable[[list[DynamicCost], Tensor | None], dict[str, Tensor]]


class _Collector:
    """Hooks that collect costs and scores in one forward.

    Copies of the model take it along, with the loss and nothing else.
    """

    def __init__(self, loss: DynamicLoss) -> None:
        self.loss = loss
        self.scores: Tensor | None = None

    def begin(self, model: nn.Module, inputs: tuple) -> None:
        self.scores = None
        costs: list[DynamicCost] | None = [] if model.training else None
        for layer in _dynamic_layers(model):
            layer._costs = costs
            follow_mode(layer, model.training)

    def see_scores(self, head: nn.Module, inputs: tuple, output: Any) -> None:
        if head.training:
            first = isinstance(output, (tuple, list))
            self.scores = (output[0] if first else output).detach()

    def end(
        self, model: nn.Module, inputs: tuple, options: dict, output: Any
    ) -> dict | None:
        layers = _dynamic_layers(model)
        costs, scores, self.scores = layers[0]._costs, self.scores, None
        for layer in layers:
            layer._costs = None
        if not model.training or not isinstance(output, dict):
            return None
        if not costs:
            raise InputError(
                'expected a dynamic convolution to run in training, got '
                "none: the model's forward called none of its layers"
            )
        correct = None
        if self.loss.only_correct:
            samples = options.get('data_samples') or inputs[1]
            correct = is_correct(scores, samples)
        return {**output, **self.loss(costs, correct)}

    def __getstate__(self) -> dict:
        return dict(self.__dict__, scores=None)


def attach_dynamic_loss(model: nn.Module, loss: DynamicLoss) -> None:
    """Let a model return an efficiency loss next to its own losses.

    Args:
        model: A model with dynamic convolutions whose forward takes
            ``(inputs, data_samples, ...)`` and returns a dict of losses in
            training.
        loss: A ``DynamicCostLoss``.

    Raises:
        InputError: The model has no dynamic layer, or no such head.
    """
    if not _dynamic_layers(model):
        raise InputError(
            f'expected dynamic convolutions for {type(loss).__name__}, got '
            f'{type(model).__name__} without any; add dict(type='
            "'mmskip.DynamicConversion') to conversions"
        )
    collector = _Collector(loss)
    if loss.only_correct:
        parts = dict(model.named_modules())
        if loss.head not in parts:
            children = ', '.join(name for name, _ in model.named_children())
            raise InputError(
                f'expected the part {loss.head!r} of {type(model).__name__} '
                f'to give the scores, got only {children}; set head= of '
                f'{type(loss).__name__}'
            )
        parts[loss.head].register_forward_hook(collector.see_scores)
    model.register_forward_pre_hook(collector.begin)
    model.register_forward_hook(collector.end, with_kwargs=True)


def is_correct(scores: Tensor | None, samples: Sequence[Any]) -> Tensor:
    """Whether the best class of each sample is its label.

    Args:
        scores: (N, classes); N may be a multiple of the samples (clips).
        samples: With ``gt_label`` (1,) each.

    Returns:
        (N,) bool.

    Raises:
        InputError: There are no scores, or not one label per sample.
    """
    if scores is None or scores.dim() != 2 or len(scores) % len(samples):
        got = 'none' if scores is None else tuple(scores.shape)
        raise InputError(
            f'expected scores (N, classes) of {len(samples)} samples for the '
            f'efficiency loss, got {got}'
        )
    labels = [torch.as_tensor(s.gt_label).flatten() for s in samples]
    if any(label.numel() != 1 for label in labels):
        raise InputError(
            'expected one label per sample, for a prediction to be right or '
            'wrong, got several (or mixed ones); set only_correct=False'
        )
    label = torch.cat(labels).to(scores.device)
    label = label.repeat_interleave(len(scores) // len(label))
    return scores.argmax(1) == label


def _dynamic_layers(model: nn.Module) -> list[DynamicConvMixin]:
    return [m for m in model.modules() if isinstance(m, DynamicConvMixin)]
