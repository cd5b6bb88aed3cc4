"""Time the first frame of a new video against a dense one, on one thread.

A stream that a plan runs is reset again and again; the next frame is then a
reference frame, the one after it is the same picture, in which nothing
changed. Weights are random: what they are changes no cost.

    python tools/benchmarks/reset.py yolox_nano_8xb8-300e_coco
    python tools/benchmarks/reset.py --host mmpose \
        td-hm_hrnet-w32_8xb64-210e_coco-256x192
"""

import argparse
import sys
from collections.abc import Sequence
from statistics import median
from time import process_time

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

import mmskip
from mmskip.apis import UserError, import_host
from mmskip.apis.errors import run_tool
from mmskip.apis.zoo_models import config_paths, without_weights

GATE = dict(type='OutputNormGate', threshold=0.2, order=2, relative=True)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help="name of one of the host's configs")
    parser.add_argument('--host', default='mmdet', help='or mmpose')
    parser.add_argument('--size', type=int, default=416, help='of the image')
    parser.add_argument('--rounds', type=int, default=21, help='resets')
    return parser.parse_args(argv)


def build(host: str, name: str) -> nn.Module:
    """Build a model of a host's config, in eval mode."""
    paths = [p for p in config_paths(host, name) if p.stem == name]
    if not paths:
        raise UserError(f'expected the name of a config of {host}, got {name}')
    torch.manual_seed(0)
    config = Config.fromfile(paths[0])
    import_host(config)
    init_default_scope(host)
    return MODELS.build(without_weights(config.model)).eval()


def cpu_time(model: nn.Module, image: Tensor) -> float:
    """Return the milliseconds of CPU time that a frame takes."""
    begin = process_time()
    model(image, None, mode='tensor')
    return 1e3 * (process_time() - begin)


def main(argv: Sequence[str] | None = None) -> int:
    """Time resets, and print a line."""
    args = parse_args(argv)
    torch.set_num_threads(1)
    dense = build(args.host, args.config)
    skipping = build(args.host, args.config)
    conversion = mmskip.SkipConversion(GATE, memory='accumulated')
    mmskip.convert(skipping, conversion)
    mmskip.accelerate(skipping)
    mmskip.accelerate(dense)
    state = mmskip.StreamState()
    images = [torch.rand(1, 3, args.size, args.size) for _ in range(3)]
    rows = []
    with torch.inference_mode(), mmskip.stream(skipping, state):
        for index in range(args.rounds + 3):
            image = images[index % 3]
            first = cpu_time(dense, image)
            state.reset()
            times = [cpu_time(skipping, image) for _ in range(2)]
            if index >= 3:
                rows.append((first, *times))
    of_dense, of_reset, of_static = map(median, zip(*rows, strict=True))
    print(
        f'{args.config}: dense {of_dense:.1f} ms, first frame of a '
        f'video {of_reset:.1f} ms ({of_reset / of_dense:.2f}), static frame '
        f'{of_static:.1f} ms ({of_static / of_dense:.3f})'
    )
    return 0


if __name__ == '__main__':
    sys.exit(run_tool(main, 'reset'))
