"""Run a model of any host up to its raw outputs, and keep them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils import _pytree

from mmskip.apis.zoo.frames import fixed_boxes


class Probe(nn.Module):
    """A model, called as far as there is nothing to choose.

    Boxes that score best, or overlap least, jump from one to the other at
    the slightest difference: proposals are the same in each frame.

    Args:
        model: Of a host, whose children are those of the probe.
        only_features: Call ``extract_feat`` and no head.
    """

    def __init__(self, model: nn.Module, only_features: bool = False) -> None:
        super().__init__()
        self._modules = model._modules
        # In a tuple, so that it is no child.
        self._model = (model,)
        self._only_features = only_features
        rpn_head = getattr(model, 'rpn_head', None)
        if rpn_head is not None and getattr(model, 'roi_head', None):
            rpn_head.predict = _propose(rpn_head)

    def forward(
        self, images: Tensor, samples: Sequence[BaseDataElement]
    ) -> Any:
        """What the model makes of a frame."""
        model = self._model[0]
        if self._only_features:
            return model.extract_feat(images)
        return model(images, samples, mode='tensor')

    def record(
        self, images: Tensor, samples: Sequence[BaseDataElement]
    ) -> dict[str, list[Tensor]]:
        """Raw outputs of a frame, of the model and of its children.

        Returns:
            Tensors by the name of a child that was called as a module; those
            of the model without one.
        """
        outputs: dict[str, list[Tensor]] = {}

        def keep(name: str) -> Callable:
            def hook(module: nn.Module, args: tuple, output: Any) -> None:
                outputs.setdefault(name, []).extend(_copies(output))

            return hook

        handles = [
            child.register_forward_hook(keep(name))
            for name, child in self.named_children()
        ]
        try:
            result = self(images.clone(), samples)
        finally:
            for handle in handles:
                handle.remove()
        outputs[''] = _copies(result)
        return outputs


def _propose(rpn_head: nn.Module) -> Callable:
    """A head's ``predict`` with boxes that depend on nothing."""
    predict = type(rpn_head).predict

    def predict_fixed(
        x: Sequence[Tensor],
        samples: Sequence[BaseDataElement],
        rescale: bool = False,
    ) -> list[Any]:
        results = predict(rpn_head, x, samples, rescale=rescale)
        if any('features' in result for result in results):
            return results  # learned ones, of Sparse R-CNN
        return [fixed_boxes(sample.img_shape) for sample in samples]

    return predict_fixed


def _copies(outputs: Any) -> list[Tensor]:
    return [
        leaf.detach().clone()
        for leaf in _pytree.tree_leaves(outputs)
        if torch.is_tensor(leaf) and leaf.is_floating_point()
    ]


def largest_error(
    actual: dict[str, list[Tensor]], expected: dict[str, list[Tensor]]
) -> tuple[float, str]:
    """How far recorded outputs are from others.

    Args:
        actual: As of :meth:`Probe.record`.
        expected: Of the same model in another way, of the same parts.

    Returns:
        The largest difference as a share of the largest value of its
        tensor, and the name of the part. Infinite where tensors are missing,
        of another shape, or not finite.
    """
    errors = [
        (error_between(actual[name], tensors), name)
        for name, tensors in expected.items()
    ]
    worst = max(error for error, _ in errors)
    # Parts come in the order in which they are called.
    return next((e, n) for e, n in errors if e >= min(worst, _NOTABLE))


#: Errors from which a part may be where others come from.
_NOTABLE = 1e-4


def error_between(actual: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference of tensors, see :func:`largest_error`."""
    if len(actual) != len(expected):
        return float('inf')
    worst = 0.0
    for ours, theirs in zip(actual, expected, strict=True):
        if ours.shape != theirs.shape:
            return float('inf')
        if ours.numel():
            scale = theirs.abs().max().clamp_min(1e-30)
            error = ((ours - theirs).abs().max() / scale).item()
            worst = max(worst, error if error == error else float('inf'))
    return worst
