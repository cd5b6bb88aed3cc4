"""A part of a model, dense and converted."""

import copy
from typing import NamedTuple

import torch
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmskip.apis.config import import_host, load_config
from mmskip.apis.errors import UserError
from mmskip.convert import SkipConversion, convert, revert
from mmskip.runtime import fold

from .forced_masks import RegionGate, Sizes, converted, output_sizes

#: The gate of a model that has none, see configs/_base_/conversions.
GATE = dict(type='OutputNormGate', order=2, relative=True)


class Pair(NamedTuple):
    """Two models that are compared.

    Attributes:
        name: ``eager`` or ``compiled``.
        dense: The part as it is.
        skip: The same with Skip-Convolutions.
        sizes: What its layers compute in a frame, if its gates are forced.
    """

    name: str
    dense: nn.Module
    skip: nn.Module
    sizes: Sizes


def build_pair(
    config: str,
    options: dict | None,
    part: str,
    threshold: float | None,
    image: Tensor,
) -> tuple[Pair, nn.Module]:
    """The eager pair, with batch norms folded and channels last.

    Args:
        config: Path of a config.
        options: Changes to it.
        part: Name of the part of the model that is timed.
        threshold: Of the gates, if the config converts no layer. None asks
            for gates that can be forced.
        image: An input (1, 3, H, W).

    Returns:
        The pair and the model's data preprocessor.

    Raises:
        UserError: The model has no such part.
    """
    cfg = load_config(config, options)
    init_default_scope(import_host(cfg))
    model = MODELS.build(cfg.model)
    # Some backbones return nothing from eval().
    model.eval()
    try:
        skip = model.get_submodule(part)
    except AttributeError as error:
        raise UserError(f'--part {part}: {error}') from None
    dense = copy.deepcopy(skip)
    if converted(skip):
        revert(dense)
    if threshold is None or not converted(skip):
        skip = copy.deepcopy(dense)
        gate = dict(GATE, threshold=threshold or 0.0)
        convert(
            skip,
            SkipConversion(gate, memory='accumulated', roi_heads=True),
        )
    if threshold is None:
        for layer in converted(skip):
            layer.gate, layer.memory = RegionGate(), 'previous'
    for module in (dense, skip):
        fold(module)
        module.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        sizes = output_sizes(skip, image)
    return Pair('eager', dense, skip, sizes), model.data_preprocessor


def compile_pair(pair: Pair, image: Tensor) -> Pair:
    """Pair the dense model under ``torch.compile`` with the same skipping.

    Its first frames take minutes.

    Args:
        pair: The eager ones.
        image: An input (1, 3, H, W).
    """
    dense, skip = copy.deepcopy(pair.dense), copy.deepcopy(pair.skip)
    with torch.inference_mode():
        sizes = output_sizes(skip, image)
    dense.compile()
    return Pair('compiled', dense, skip, sizes)
