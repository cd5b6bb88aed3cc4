"""The loss that makes dynamic convolutions compute less."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmskip.layers import DynamicCost
from mmskip.registry import MODELS
from mmskip.runtime import InputError


@MODELS.register_module()
class DynamicCostLoss(nn.Module):
    """Squared share of the MACs that samples ask for (VA-RED^2, Eq. 3.6).

    B. Pan, M.S. thesis, MIT, 2023: per sample ``(mu_0 * sum_l C(f_l) /
    sum_k C(f_k) * r_l / R_l)^2`` with ``mu_0 = 1`` if it was classified
    correctly, else 0; the mean over the batch is ours. ``r / R`` is that of
    the largest option with a non-zero weight; how it gets a gradient is told
    in :func:`mmskip.layers.dynamic_cost.size_of_largest`.

    Args:
        weight: ``lambda_e``, 0.8 in the thesis (when fine-tuning).
        head: Name of the model's part whose output are the scores (N,
            classes) that are right or wrong.
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

    def forward(
        self, costs: Sequence[DynamicCost], correct: Tensor | None
    ) -> dict[str, Tensor]:
        """Turn costs into entries for a dict of losses.

        Args:
            costs: Of every call of a dynamic layer in one forward. Layers
                that see each frame of a sample are averaged over its frames.
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
                    f'expected dynamic layers to see whole frames of {samples}'
                    f' samples in training, got a batch of {len(cost.ratio)}'
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
