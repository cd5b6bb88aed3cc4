"""Rename the parameters of a public EfficientDet checkpoint to ours.

Example::

    python tools/model_converters/efficientdet.py theirs.pth ours.pth

Reads checkpoints of the common PyTorch port. Values stay as they are, but for
the order of the box channels: the port predicts (y, x, h, w), mmdet
(x, y, w, h). Checkpoints whose 1x1 convolutions have no bias where a
BatchNorm follows need ``conv_bias=False`` in neck and head. Keys without a
counterpart are listed and left out; the exit status is then 1.
"""

import argparse
import pickle
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmskip.apis import UserError
from mmskip.apis.errors import EXIT_INCOMPLETE, EXIT_OK, run_tool
from mmskip.compat.checkpoints import load_from_local

WRAPPERS = ('state_dict_ema', 'state_dict', 'model')
PREFIXES = ('module.', 'model.')
LEAF = r'(weight|bias|running_mean|running_var|num_batches_tracked)'
# Nodes of a layer of the pyramid in the port's order, for five levels.
NODES = (
    'down.3',
    'down.2',
    'down.1',
    'down.0',
    'up.0',
    'up.1',
    'up.2',
    'up.3',
)
# Pyramid levels 3 and 4 (P6, P7) are made by the neck itself.
BACKBONE_LEVELS = 3
SEPARABLE = dict(conv_dw='depthwise', conv_pw='pointwise')
SQUEEZE = dict(conv_reduce='conv1', conv_expand='conv2')
# The layers of a block, where it widens its input first and where it does
# not: then the same names stand for other layers.
WIDENING = dict(
    conv_pw='expand_conv.conv',
    bn1='expand_conv.bn',
    conv_dw='depthwise_conv.conv',
    bn2='depthwise_conv.bn',
    conv_pwl='linear_conv.conv',
    bn3='linear_conv.bn',
)
PLAIN = dict(
    conv_dw='depthwise_conv.conv',
    bn1='depthwise_conv.bn',
    conv_pw='linear_conv.conv',
    bn2='linear_conv.bn',
)
STEM = dict(conv_stem='conv', bn1='bn')
HEADS = dict(class_net='cls', box_net='reg')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('source', type=Path, help='checkpoint to read')
    parser.add_argument('target', type=Path, help='checkpoint to write')
    return parser.parse_args(argv)


def convert(source: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename the parameters.

    Args:
        source: Parameters and buffers by the port's names.

    Returns:
        Those that have a counterpart, by our names, and the other names.

    Raises:
        UserError: Two of them have the same counterpart.
    """
    keys = [_strip(key) for key in source]
    firsts = first_blocks(keys)
    converted, unmatched = {}, []
    for key, value in zip(keys, source.values(), strict=True):
        name = rename(key, firsts)
        if name is None:
            unmatched.append(key)
        elif name in converted:
            raise UserError(
                f'expected one parameter for {name}, got a second one, '
                f'{key}; the checkpoint mixes two models'
            )
        else:
            converted[name] = value
            if name.startswith('bbox_head.retina_reg.pointwise.'):
                converted[name] = swap_axes(value)
    return converted, unmatched


def rename(key: str, firsts: dict[int, tuple[int, int]]) -> str | None:
    """Tell our name of a parameter.

    Args:
        key: The port's name.
        firsts: See :func:`first_blocks`.

    Returns:
        Our name. None if there is no counterpart.
    """
    part, _, rest = key.partition('.')
    if part == 'backbone':
        return _rename_backbone(rest, firsts)
    if part == 'fpn':
        return _rename_neck(rest)
    if part in HEADS:
        return _rename_head(HEADS[part], rest)
    return None


def first_blocks(keys: Sequence[str]) -> dict[int, tuple[int, int]]:
    """Find where the stages of the port's backbone begin in mmdet's.

    mmdet joins neighbouring stages of one resolution: the port's stages 3
    and 4, and 5 and 6.

    Args:
        keys: The port's names.

    Returns:
        By the port's stage: mmdet's layer, and the index there of the
        stage's first block.
    """
    found = [re.match(r'backbone\.blocks\.(\d+)\.(\d+)\.', k) for k in keys]
    blocks = {(int(m[1]), int(m[2])) for m in found if m}
    depth = [sum(stage == s for s, _ in blocks) for stage in range(7)]
    return {
        0: (1, 0),
        1: (2, 0),
        2: (3, 0),
        3: (4, 0),
        4: (4, depth[3]),
        5: (5, 0),
        6: (5, depth[5]),
    }


def swap_axes(value: Tensor) -> Tensor:
    """Reorder box channels from (y, x, h, w) to (x, y, w, h).

    Args:
        value: Of shape ``(anchors * 4, ...)``.

    Returns:
        The same shape.
    """
    boxes = value.unflatten(0, (-1, 4))
    return boxes[:, [1, 0, 3, 2]].flatten(0, 1).contiguous()


def load(path: Path) -> dict[str, Tensor]:
    """Read the parameters of a checkpoint, wrapped in a dict or not.

    Raises:
        UserError: The file cannot be read or holds something else.
    """
    try:
        content = load_from_local(str(path), map_location='cpu')
    except (OSError, pickle.UnpicklingError) as error:
        raise UserError(str(error)) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and wrapper in content:
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not all(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise UserError(
            f'{path}: expected parameters by name, as state_dict() gives '
            f'them, got {type(content).__name__}'
        )
    return content


def main(argv: Sequence[str] | None = None) -> int:
    """Convert a file, report, and return the exit code."""
    args = parse_args(argv)
    converted, unmatched = convert(load(args.source))
    if not converted:
        raise UserError(
            f"{args.source}: expected names such as 'backbone.bn1.weight' and "
            f"'class_net.predict.conv_pw.weight', got {unmatched[:3]}"
        )
    args.target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=converted, meta={}), args.target)
    for key in unmatched:
        print(f'left out, no counterpart: {key}')
    print(
        f'{args.target}: {len(converted)} parameters and buffers renamed, '
        f'{len(unmatched)} left out'
    )
    return EXIT_INCOMPLETE if unmatched else EXIT_OK


def _rename_backbone(rest: str, firsts: dict) -> str | None:
    """Tell our name of what follows ``backbone.``."""
    found = re.fullmatch(rf'(conv_stem|bn1)\.{LEAF}', rest)
    if found:
        return f'backbone.layers.0.{STEM[found[1]]}.{found[2]}'
    found = re.fullmatch(rf'blocks\.(\d)\.(\d+)\.(.+)\.{LEAF}', rest)
    if not found or int(found[1]) not in firsts:
        return None
    layer, first = firsts[int(found[1])]
    inner = found[3]
    if inner.startswith('se.'):
        inner = SQUEEZE.get(inner[3:])
        inner = inner and f'se.{inner}.conv'
    else:
        inner = (PLAIN if found[1] == '0' else WIDENING).get(inner)
    if inner is None:
        return None
    block = first + int(found[2])
    return f'backbone.layers.{layer}.{block}.{inner}.{found[4]}'


def _rename_neck(rest: str) -> str | None:
    """Tell our name of what follows ``fpn.``."""
    found = re.fullmatch(rf'resample\.(\d)\.conv\.(conv|bn)\.{LEAF}', rest)
    if found and int(found[1]) >= BACKBONE_LEVELS:
        level = int(found[1]) - BACKBONE_LEVELS
        return f'neck.extra.{level}.{found[2]}.{found[3]}'
    found = re.fullmatch(r'cell\.(\d+)\.fnode\.([0-7])\.(.+)', rest)
    if not found:
        return None
    node = f'neck.layers.{found[1]}.{NODES[int(found[2])]}'
    inner = found[3]
    if inner == 'combine.edge_weights':
        return f'{node}.fusion_weights'
    found = re.fullmatch(
        rf'combine\.resample\.[0-2]\.conv\.(conv|bn)\.{LEAF}', inner
    )
    if found:
        return f'{node}.lateral.{found[1]}.{found[2]}'
    found = re.fullmatch(
        rf'after_combine\.conv\.(conv_dw|conv_pw|bn)\.{LEAF}', inner
    )
    if not found:
        return None
    if found[1] == 'bn':
        return f'{node}.bn.{found[2]}'
    return f'{node}.conv.{SEPARABLE[found[1]]}.{found[2]}'


def _rename_head(tower: str, rest: str) -> str | None:
    """Tell our name of what follows ``class_net.`` or ``box_net.``."""
    found = re.fullmatch(rf'predict\.(conv_dw|conv_pw)\.{LEAF}', rest)
    if found:
        conv = SEPARABLE[found[1]]
        return f'bbox_head.retina_{tower}.{conv}.{found[2]}'
    found = re.fullmatch(rf'conv_rep\.(\d+)\.(conv_dw|conv_pw)\.{LEAF}', rest)
    if found:
        conv = SEPARABLE[found[2]]
        return f'bbox_head.{tower}_convs.{found[1]}.{conv}.{found[3]}'
    found = re.fullmatch(rf'bn_rep\.(\d+)\.(\d+)\.bn\.{LEAF}', rest)
    if found:
        return f'bbox_head.{tower}_norms.{found[1]}.{found[2]}.{found[3]}'
    return None


def _strip(key: str) -> str:
    """Remove what wrappers of the model put in front of its names."""
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key


if __name__ == '__main__':
    sys.exit(run_tool(main, 'efficientdet'))
