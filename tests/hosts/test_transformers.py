"""Transformers of the hosts, tiny, with linear layers that skip."""

import copy
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

import mmskip
from mmskip.reading import InputError
from tests.helpers.runs import flat, run_clip, run_dense, run_stream
from tests.hosts.host import (
    assert_identical,
    assert_same,
    default_scope,
    is_converted,
    take_statistics,
)

IMAGE = 3, 40, 56
WINDOW, WIDE_WINDOW = (1, 3, 4, 32, 32), (1, 3, 4, 32, 64)
_HRFORMER = dict(block='HRFORMERBLOCK', num_modules=1)
_ATTENTION = dict(embed_dims=16, num_heads=2)


class Family(NamedTuple):
    """How a transformer is made, and what it takes.

    Attributes:
        scope: Host that it is of.
        config: Its config.
        shape: Shape of an image, or of the windows of a video.
        dense: Layers that multiply and stay dense, as the end of their name.
        exclude: Layers whose tokens lie across images.
    """

    scope: str
    config: dict
    shape: tuple[int, ...]
    dense: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def _stage(heads):
    number = len(heads)
    return dict(
        _HRFORMER,
        num_branches=number,
        num_blocks=(1,) * number,
        num_channels=tuple(8 * head for head in heads),
        num_heads=heads,
        mlp_ratios=(2,) * number,
        window_sizes=(4,) * number,
    )


def _detr(kind, head, attention, **options):
    """A detector with an encoder and a decoder behind a narrow ResNet-18."""
    levels = 1 if kind == 'DETR' else 4
    width = attention['embed_dims']
    ffn = dict(embed_dims=width, feedforward_channels=32)
    cross = attention if levels == 1 else dict(attention, num_levels=levels)
    return dict(
        type=kind,
        num_queries=5,
        backbone=dict(
            type='ResNet',
            depth=18,
            base_channels=4,
            stem_channels=4,
            out_indices=(3,) if levels == 1 else (1, 2, 3),
        ),
        neck=dict(
            type='ChannelMapper',
            in_channels=[32] if levels == 1 else [8, 16, 32],
            kernel_size=1,
            out_channels=width,
            norm_cfg=None if levels == 1 else dict(type='GN', num_groups=4),
            act_cfg=None,
            num_outs=levels,
        ),
        encoder=dict(
            num_layers=2,
            layer_cfg=dict(self_attn_cfg=cross, ffn_cfg=ffn),
        ),
        decoder=dict(
            num_layers=2,
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=attention, cross_attn_cfg=cross, ffn_cfg=ffn
            ),
            **({} if levels == 1 else dict(post_norm_cfg=None)),
        ),
        positional_encoding=dict(num_feats=width // 2, normalize=True),
        bbox_head=dict(
            type=head,
            num_classes=3,
            embed_dims=width,
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        ),
        **options,
    )


_BATCH_FIRST = dict(_ATTENTION, batch_first=True)
_DENOISING = dict(
    label_noise_scale=0.5,
    box_noise_scale=1.0,
    group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=4),
)
FAMILIES = MappingProxyType(
    {
        'Swin': Family(
            'mmdet',
            dict(
                type='SwinTransformer',
                embed_dims=8,
                depths=(2, 2, 1, 1),
                num_heads=(1, 2, 4, 4),
                window_size=4,
                mlp_ratio=2,
            ),
            IMAGE,
        ),
        'PVTv2': Family(
            'mmdet',
            dict(
                type='PyramidVisionTransformerV2',
                embed_dims=8,
                num_layers=[1, 1, 1, 1],
                num_heads=[1, 1, 2, 2],
                mlp_ratios=(2, 2, 2, 2),
            ),
            (3, 64, 64),
            ('attn.out_proj',),
        ),
        'DETR': Family(
            'mmdet',
            _detr('DETR', 'DETRHead', _BATCH_FIRST),
            IMAGE,
            ('attn.out_proj',),
            (r'.*bbox_head',),
        ),
        'Deformable DETR': Family(
            'mmdet',
            _detr('DeformableDETR', 'DeformableDETRHead', _BATCH_FIRST),
            IMAGE,
            ('attn.out_proj',),
        ),
        'DINO': Family(
            'mmdet',
            _detr(
                'DINO',
                'DINOHead',
                dict(embed_dims=256, num_heads=8),  # the host takes no other
                with_box_refine=True,
                as_two_stage=True,
                dn_cfg=_DENOISING,
            ),
            IMAGE,
            ('attn.out_proj',),
        ),
        'HRFormer': Family(
            'mmpose',
            dict(
                type='HRFormer',
                extra=dict(
                    drop_path_rate=0.1,
                    stage1=dict(
                        num_modules=1,
                        num_branches=1,
                        block='BOTTLENECK',
                        num_blocks=(1,),
                        num_channels=(8,),
                    ),
                    stage2=_stage((1, 2)),
                    stage3=_stage((1, 2, 2)),
                    stage4=_stage((1, 2, 2, 2)),
                ),
            ),
            (3, 32, 64),
        ),
        'Swin3D': Family(
            'mmaction',
            dict(
                type='SwinTransformer3D',
                arch=dict(
                    embed_dims=8, depths=[2, 2, 1, 1], num_heads=[1, 2, 4, 4]
                ),
                pretrained2d=False,
                window_size=(2, 4, 4),
                mlp_ratio=2,
            ),
            WIDE_WINDOW,
        ),
        'TimeSformer': Family(
            'mmaction',
            dict(
                type='TimeSformer',
                num_frames=4,
                img_size=32,
                patch_size=8,
                embed_dims=16,
                num_heads=2,
                num_transformer_layers=2,
                attention_type='divided_space_time',
            ),
            WINDOW,
            ('attn.out_proj',),
        ),
        'VideoMAE': Family(
            'mmaction',
            dict(
                type='VisionTransformer',
                img_size=32,
                patch_size=8,
                embed_dims=16,
                depth=2,
                num_heads=2,
                num_frames=4,
            ),
            WINDOW,
            ('attn.qkv',),
        ),
        'MViT': Family(
            'mmaction',
            dict(
                type='MViT',
                arch=dict(
                    embed_dims=8,
                    num_layers=3,
                    num_heads=1,
                    downscale_indices=[1, 2],
                ),
                spatial_size=32,
                temporal_size=4,
            ),
            WINDOW,
        ),
        'UniFormer': Family(
            'mmaction',
            dict(
                type='UniFormer',
                depth=[1, 1, 2, 1],
                img_size=32,
                embed_dim=[8, 8, 16, 16],
                head_dim=8,
                mlp_ratio=2,
                pretrained2d=False,
            ),
            WIDE_WINDOW,
        ),
    }
)


class Detector(nn.Module):
    """Gives what the heads return for images, (N, layers, queries, ...)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        from mmdet.structures import DetDataSample

        size = tuple(x.shape[2:])
        shapes = dict(img_shape=size, batch_input_shape=size)
        samples = [DetDataSample(metainfo=shapes) for _ in x]
        outputs = self.model(x, samples, mode='tensor')
        return [output.transpose(0, 1) for output in outputs]


class Recognizer(nn.Module):
    """Gives what a backbone makes of windows (N, windows, C, T, H, W)."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        return self.backbone(x.flatten(0, 1))


@cache
def stock(name):
    """A model in double precision, with weights of every kind."""
    scope, config, shape, *_ = FAMILIES[name]
    pytest.importorskip(f'{scope}.utils').register_all_modules(False)
    with default_scope(scope):
        model = MODELS.build(copy.deepcopy(config))
    if hasattr(model, 'bbox_head'):
        model = Detector(model)
    elif scope == 'mmaction':
        model = Recognizer(model)
    # Some projections begin with zeros.
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    model.double().eval()
    video = walk(shape, 1, 2)[0]
    take_statistics(model, lambda net: net(video))
    return model


def converted(name, threshold=0.0, memory='accumulated', **options):
    model = copy.deepcopy(stock(name))
    exclude = options.pop('exclude', FAMILIES[name].exclude)
    gate = dict(type=options.pop('gate', 'OutputNormGate'), **options)
    if gate['type'] == 'OutputNormGate':
        gate['threshold'] = threshold
    conversion = mmskip.SkipConversion(gate, memory, linear=True)
    model.report = mmskip.convert(model, conversion, exclude=exclude)
    return model.double()


def walk(shape, frames, batch=1, share=1.0):
    """Frames each of which differs from the last one, in part."""
    video = [torch.randn(batch, *shape, dtype=torch.float64)]
    for _ in range(frames - 1):
        moved = torch.rand(batch, *(1,) * len(shape[:-2]), *shape[-2:]) < share
        video.append(video[-1] + 0.5 * torch.randn_like(video[0]) * moved)
    return video


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def test_alone_it_is_the_stock_model_bit_for_bit(name):
    x = walk(FAMILIES[name].shape, 1)

    assert_identical(
        run_dense(converted(name), x)[0], run_dense(stock(name), x)[0]
    )


def test_all_linear_layers_skip_but_those_that_are_named(name):
    report = converted(name).report

    for layer, reason in report.left_dense.items():
        if reason != 'excluded':
            assert layer.endswith(FAMILIES[name].dense), reason


@pytest.mark.parametrize('memory', ['previous', 'accumulated'])
def test_open_gates_equal_dense_on_every_frame(name, memory):
    video = walk(FAMILIES[name].shape, 3)
    model = converted(name, -1.0, memory)

    found, macs = run_stream(model, video)

    assert_same(found, run_dense(stock(name), video)[0])
    assert macs.total().executed == macs.total().dense


def test_open_gates_equal_dense_in_float32(name):
    video = [x.float() for x in walk(FAMILIES[name].shape, 3)]
    model, dense = converted(name, -1.0).float(), copy.deepcopy(stock(name))

    found, _ = run_stream(model, video)

    expected, _ = run_dense(dense.float(), video)
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a - b).abs().max() <= 1e-4 * b.abs().max()


def test_a_clip_equals_the_stream(name):
    video = walk(FAMILIES[name].shape, 3, batch=2, share=0.1)
    model = converted(name, 0.3, relative=True)

    streamed, macs = run_stream(model, video)
    clipped, clip_macs = run_clip(model, video)

    assert_same(clipped, streamed)
    assert clip_macs.by_module() == macs.by_module()
    total = macs.total()
    assert total.reference < total.executed < total.dense


def test_interleaved_streams_equal_separate_ones_and_lock_step(name):
    videos = [walk(FAMILIES[name].shape, 2, share=0.1) for _ in range(2)]
    model = converted(name, 0.3, relative=True)
    separate = [run_stream(model, video) for video in videos]
    states = [mmskip.StreamState(), mmskip.StreamState()]
    mixed = [[], []]

    for frames in zip(*videos, strict=True):
        for camera, x in enumerate(frames):
            mixed[camera] += run_stream(model, [x], states[camera])[0]
    together = [torch.cat(frames) for frames in zip(*videos, strict=True)]
    joint, macs = run_stream(model, together)

    for camera, (alone, _) in enumerate(separate):
        assert_identical(mixed[camera], alone)
        own = [[t[camera : camera + 1] for t in frame] for frame in joint]
        assert_same(own, alone)
    total = mmskip.MacCount.sum(one.total() for _, one in separate)
    assert macs.total() == total


def test_a_static_video_costs_one_frame_of_what_is_converted(name):
    video = walk(FAMILIES[name].shape, 1) * 3
    model = converted(name)
    _, dense = run_dense(stock(name), video)

    found, macs = run_stream(model, video)

    assert_identical(found, found[:1] * 3)
    assert macs.total().dense == dense.total().dense
    layers = dict(model.named_modules())
    for layer, count in macs.by_module().items():
        share = 3 if is_converted(layers[layer]) else 1
        assert count.executed * share == count.dense, layer


# Not of decoders: their first queries are constants, and gates there idle.
@pytest.mark.parametrize('name', ['Swin', 'PVTv2', 'TimeSformer', 'MViT'])
def test_every_gate_learns_in_clips(name):
    gate = dict(gate='GumbelGate', gate_input='magnitude', bias=1.0)
    model = converted(name, **gate)
    model.train()  # that of Swin returns nothing
    video = walk(FAMILIES[name].shape, 3, batch=2, share=0.1)

    with torch.enable_grad(), mmskip.clip(model, 3) as binding:
        outputs = flat(model(torch.stack(video, 1).flatten(0, 1)))
        sum(output.square().mean() for output in outputs).backward()

    layers = [n for n, m in model.named_modules() if is_converted(m)]
    assert len(binding.costs) == len(layers)
    for layer in layers:
        assert model.get_submodule(layer).gate.weight.grad.any(), layer


def test_layers_before_images_run_with_one_image():
    video = walk(IMAGE, 3)

    found, _ = run_stream(converted('DETR', -1.0, exclude=()), video)

    assert_same(found, run_dense(stock('DETR'), video)[0])


def test_layers_before_images_are_refused_with_several_images():
    video = walk(IMAGE, 2, batch=2)
    model = converted('DETR', exclude=())

    with pytest.raises(InputError, match=r'fc_cls.*\(2, 2, .*exclude'):
        run_stream(model, video)


def test_macs_of_swin_are_a_closed_form():
    _, macs = run_dense(stock('Swin'), walk(IMAGE, 1))

    # Of each stage: tokens, tokens of whole windows, features.
    stages = (10 * 14, 12 * 16, 8), (5 * 7, 8 * 8, 16)
    stages += (3 * 4, 4 * 4, 32), (2 * 2, 4 * 4, 64)
    expected = 10 * 14 * 8 * (3 * 4 * 4)
    for blocks, (tokens, padded, c) in zip((2, 2, 1, 1), stages, strict=True):
        expected += blocks * (padded * 4 * c * c + tokens * 4 * c * c)
    for tokens, _, c in stages[1:]:
        expected += tokens * (4 * c // 2) * c
    assert macs.total().dense == expected
