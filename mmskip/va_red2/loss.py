"""The loss by which dynamic convolutions learn to compute less."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmskip.core import CostCollector
from mmskip.reading import InputError
from mmskip.registry import MODELS

from .layer import DynamicConvMixin, DynamicCost


@MODELS.register_module()
class DynamicCostLoss(nn.Module):
    """Penalises the share of MACs that samples need (VA-RED^2, Eq. 3.6).

    B. Pan, M.S. thesis, MIT, 2023: per sample ``(mu_0 * sum_l C(f_l) /
    sum_k C(f_k) * r_l / R_l)^2`` with ``mu_0 = 1`` if it was classified
    correctly, else 0; the mean over the batch is ours. ``r / R`` is that of
    the largest option with a non-zero weight; how it gets a gradient is told
    in :func:`mmskip.va_red2.layer.size_of_largest`.

    Args:
        weight: ``lambda_e``, 0.8 in the thesis (when fine-tuning).
        head: Name of the module of the model whose output are the scores
            (N, classes) that are right or wrong.
        only_correct: False sets ``mu_0 = 1`` for all samples; then no head
            and no labels are needed.

    Raises:
        ValueError: ``weight`` is negative.
    """

    def __init__(
        self,
        weight: float = 0.8,
        head: str = 'cls_head',
        only_correct: bool = True,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f'expected weight >= 0, got {weight!r}')
        self.weight = float(weight)
        self.head = head
        self.only_correct = only_correct

    def attach(self, model: nn.Module) -> None:
        """Make a model return this loss beside its own ones.

        Args:
            model: A model with dynamic convolutions whose forward takes
                ``(inputs, data_samples, ...)`` and returns a dict of losses
                in training.

        Raises:
            InputError: The model has no dynamic layer, or no such head.
        """
        collector = _Collector(self, DynamicConvMixin, 'a dynamic convolution')
        if not collector.layers(model):
            raise InputError(
                f'expected dynamic convolutions for {type(self).__name__}, '
                f'got {type(model).__name__} without any; add dict(type='
                "'mmskip.DynamicConversion') to conversions"
            )
        if self.only_correct:
            self._scores_of(model).register_forward_hook(collector.note_scores)
        model.register_forward_pre_hook(collector.begin)
        model.register_forward_hook(collector.end, with_kwargs=True)

    def _scores_of(self, model: nn.Module) -> nn.Module:
        """Find the module of a model that gives the scores."""
        modules = dict(model.named_modules())
        if self.head not in modules:
            children = ', '.join(name for name, _ in model.named_children())
            raise InputError(
                f'expected a module {self.head!r} of '
                f'{type(model).__name__} to give the scores, got only '
                f'{children}; set head= of {type(self).__name__}'
            )
        return modules[self.head]

    def forward(
        self, costs: Sequence[DynamicCost], correct: Tensor | None
    ) -> dict[str, Tensor]:
        """Turn costs into entries for a dict of losses.

        Args:
            costs: Costs of every call of a dynamic layer in one forward.
                Layers that run on each frame of a sample by itself are
                averaged over its frames.
            correct: (N,) bool, None for ``only_correct=False``.

        Returns:
            ``loss_dynamic``, to be summed; ``dynamic_share``, the mean r / R
            over layers by their MACs, between 0 and 1, to be logged.

        Raises:
            InputError: A layer's batch is no multiple of N.
        """
        samples = len(correct) if correct is not None else None
        samples = samples or min(len(cost.ratio) for cost in costs)
        dense = share = 0
        for cost in costs:
            frames, rest = divmod(len(cost.ratio), samples)
            if rest:
                raise InputError(
                    'expected dynamic layers to run on whole frames of '
                    f'{samples} samples in training, got a batch of '
                    f'{len(cost.ratio)}'
                )
            ratio = cost.ratio.unflatten(0, (samples, frames)).mean(1)
            share = share + cost.dense * frames * ratio
            dense += cost.dense * frames
        share = share / dense
        counted = share if correct is None else share * correct.to(share)
        return dict(
            loss_dynamic=self.weight * counted.square().mean(),
            dynamic_share=share.detach().mean(),
        )

    def extra_repr(self) -> str:
        return f'weight={self.weight}, only_correct={self.only_correct}'


def is_correct(scores: Tensor | None, samples: Sequence[Any]) -> Tensor:
    """Tell for each sample if its best class is its label.

    Args:
        scores: (N, classes); N may be a multiple of the samples (clips).
        samples: Data samples with ``gt_label`` (1,) each.

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


class _Collector(CostCollector):
    """Adds the loss to the entries that a model returns, by its scores.

    Copies of the model take it along, with the loss and nothing else.
    """

    scores: Tensor | None = None

    def begin(self, model: nn.Module, inputs: tuple) -> None:
        self.scores = None
        super().begin(model, inputs)

    def note_scores(self, head: nn.Module, inputs: tuple, output: Any) -> None:
        """Keep the scores of the head, which tell what was right."""
        if head.training:
            first = isinstance(output, (tuple, list))
            self.scores = (output[0] if first else output).detach()

    def end(
        self, model: nn.Module, inputs: tuple, options: dict, output: Any
    ) -> dict | None:
        """Turn what was collected into entries of the losses."""
        scores, self.scores = self.scores, None
        costs = self.take(model, output)
        if costs is None:
            return None
        correct = None
        if self.loss.only_correct:
            samples = options.get('data_samples') or inputs[1]
            correct = is_correct(scores, samples)
        return {**output, **self.loss(costs, correct)}

    def __getstate__(self) -> dict:
        return dict(self.__dict__, scores=None)
