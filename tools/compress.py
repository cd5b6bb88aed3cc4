"""Compress a trained model by SVD, to a share of its MACs.

Chooses the rank of every convolution greedily, by the energy of its kernel
that is kept per MAC, and writes to --out a config and a checkpoint for
tools/test.py and, to tune the factors, tools/train.py. Conversions of the
config stay and are applied to the factors. Example::

    python tools/compress.py CONFIG CHECKPOINT --method spatial_svd \
        --macs 0.5 --out work_dirs/compressed
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from torch import Tensor, nn

import mmskip
from mmskip.apis import UserError, init_model, load_config
from mmskip.apis.errors import EXIT_OK, one_line, run_tool
from mmskip.apis.launch import add_config_options
from mmskip.apis.models import check_checkpoint
from mmskip.compression import choose_ranks, measure_spectra
from mmskip.experiments import SVD_OPTIONS, Compression, make_folder

CONVERTED = 'mmskip.ConvertedModel'
GIGA = 1e9


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights of the plain model')
    parser.add_argument(
        '--method',
        choices=SVD_OPTIONS,
        default='spatial_svd',
        help='which SVD',
    )
    parser.add_argument(
        '--macs',
        type=float,
        required=True,
        help="share of the whole model's MACs that may be left, such as 0.5",
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        help="shape of the model's input for which MACs are counted (default:"
        " 1 3 H W of the config's codec.input_size)",
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='folder for both files'
    )
    add_config_options(parser)
    args = parser.parse_args(argv)
    if not 0 < args.macs < 1:
        parser.error('--macs: expected a share between 0 and 1')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    check_checkpoint(args.checkpoint)
    image = torch.zeros(args.shape or default_shape(cfg))
    plain, conversions = strip_conversions(cfg)
    model = init_model(plain, args.checkpoint)
    before = count(model, image)
    method = SVD_OPTIONS[args.method]
    ranks = select(model, image, method, args.macs * before)
    svd = dict(type='mmskip.SVDConversion', method=method, ranks=ranks)
    mmskip.convert(model, mmskip.SVDConversion(method, ranks=ranks))
    after = count(model, image)
    make_folder(args)
    compression = Compression(args.method, args.macs)
    path, weights = compression.files(args.out, args.config)
    torch.save(
        dict(
            state_dict=model.state_dict(),
            meta=dict(dataset_meta=model.dataset_meta),
        ),
        weights,
    )
    compressed_config(cfg, [svd, *conversions], weights).dump(path)
    print(
        f'{len(ranks)} layers factorised: {before / GIGA:.4g} -> '
        f'{after / GIGA:.4g} GMAC ({after / before:.2%}) for an input of '
        f'shape {tuple(image.shape)}\n{path}\n{weights}'
    )
    return EXIT_OK


def default_shape(cfg: Config) -> tuple[int, ...]:
    """The input that a pose config tells of.

    Raises:
        UserError: The config has no such setting.
    """
    size = (cfg.get('codec') or {}).get('input_size')
    if size is None:
        raise UserError(
            'the config does not tell the size of the input; give it with '
            '--shape, e.g. --shape 1 3 384 640 (N C H W)'
        )
    width, height = size
    return (1, 3, height, width)


def strip_conversions(cfg: Config) -> tuple[Config, list[dict]]:
    """The config of the plain model, and the conversions of this one.

    Raises:
        UserError: It has been compressed already.
    """
    if 'model' not in cfg:
        raise UserError("the config has no 'model'")
    plain = Config(cfg.to_dict())
    if cfg.model.type != CONVERTED:
        return plain, []
    conversions = plain.model.pop('conversions')
    if any('SVDConversion' in str(c['type']) for c in conversions):
        raise UserError(
            'the config has an SVDConversion already; compress the plain '
            'model anew, with another share'
        )
    plain.model.pop('efficiency_loss', None)
    plain.model.type = plain.model.pop('arch')
    return plain, list(conversions)


def count(model: nn.Module, image: Tensor) -> int:
    """MACs of the model's forward on an input.

    Raises:
        UserError: It does not run on this input.
    """
    try:
        with torch.no_grad(), mmskip.count_macs(model) as macs:
            model(image, None, mode='tensor')
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f'{type(model).__name__} does not run on an input of shape '
            f'{tuple(image.shape)} (mode="tensor"): {one_line(error)}; '
            'choose another --shape'
        ) from error
    return macs.total().executed


def select(
    model: nn.Module, image: Tensor, method: str, macs: float
) -> dict[str, int]:
    """Ranks with which the whole model does at most so many MACs.

    Raises:
        UserError: No ranks are small enough, or none has to be.
    """
    layers = measure_spectra(
        model, lambda: model(image, None, mode='tensor'), method
    )
    others = count(model, image) - sum(layer.dense for layer in layers)
    least = others + sum(min(x.dense, x.per_rank) for x in layers)
    if macs < least:
        raise UserError(
            f'the model does {least / GIGA:.4g} GMAC with rank 1 in all '
            f'{len(layers)} layers that can be factorised, more than the '
            f'{macs / GIGA:.4g} of --macs; choose a larger share'
        )
    ranks = choose_ranks(layers, int(macs) - others)
    if not ranks:
        raise UserError('no layer has to be factorised; choose less --macs')
    return ranks


def compressed_config(
    cfg: Config, conversions: list[dict], weights: Path
) -> Config:
    """The config with the conversions, which begins with the weights."""
    result = Config(cfg.to_dict())
    if result.model.type != CONVERTED:
        result.model.arch = result.model.type
        result.model.type = CONVERTED
    result.model.conversions = [ConfigDict(c) for c in conversions]
    if 'backbone' in result.model:
        result.model.backbone.pop('init_cfg', None)
    result.load_from = str(weights)
    imports = result.get('custom_imports') or dict(imports=[])
    names = imports['imports']
    names = [names] if isinstance(names, str) else list(names)
    if 'mmskip' not in names:
        names.append('mmskip')
    result.custom_imports = dict(imports=names, allow_failed_imports=False)
    return result


if __name__ == '__main__':
    sys.exit(run_tool(main, 'compress'))
