"""Tiny recognizers that stop and forward, and videos for them."""

import torch
from mmaction.structures import ActionDataSample
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope

from mmskip.sof_net import list_stages

CLASSES = 5
SIZE = 32
HIDDEN = 8
POLICY = dict(type='StopOrForwardHead', hidden_channels=HIDDEN)
GUIDANCE = dict(type='PolicyGuidanceLoss')


def tsn_config(**head):
    """A stock TSN with a ResNet-18 of 8 channels."""
    return dict(
        type='Recognizer2D',
        backbone=dict(type='mmskip.NarrowResNet', depth=18, base_channels=8),
        cls_head=dict(
            type='TSNHead',
            num_classes=CLASSES,
            in_channels=64,
            dropout_ratio=0,
            topk=(1,),
            average_clips='prob',
            **head,
        ),
        data_preprocessor=dict(
            type='ActionDataPreprocessor', mean=[127.5], std=[64.0]
        ),
    )


def build(cfg, seed=0):
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmaction'):
        return MODELS.build(ConfigDict(cfg)).double().eval()


def build_sof(policy=POLICY, guidance_loss=GUIDANCE, head=None, **keys):
    """A recognizer in double precision: sums hardly depend on their order."""
    cfg = dict(
        tsn_config(**(head or {})),
        type='mmskip.SoFRecognizer',
        policy=policy,
        guidance_loss=guidance_loss,
        **keys,
    )
    return stir(build(cfg))


@torch.no_grad()
def stir(model, seed=0, forward=0.85):
    """Let each policy forward some frames of noise and stop others."""
    draws = torch.Generator().manual_seed(seed)
    x = model.data_preprocessor(data(videos(8, 8, seed=99)))['inputs']
    x = x.flatten(0, 1)
    for stage, policy in zip(
        list_stages(model.backbone), model.policies, strict=False
    ):
        x = stage(x)
        weight = policy.gate.weight
        weight.copy_(torch.randn(weight.shape, generator=draws) * 8)
        embedded = policy.embed(x)
        margin = policy.step(embedded, policy.initial_state(len(x))).margin
        policy.gate.bias[1] -= margin.quantile(1 - forward)
    return model


def videos(batch, frames, seed=0):
    """Videos (B, T, 3, H, W) of noise, each frame of its own brightness."""
    draws = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, frames, 3, SIZE, SIZE, generator=draws)
    light = torch.randn(batch, frames, 1, 1, 1, generator=draws)
    return ((noise + 2 * light) * 30 + 128).clamp(0, 255).double()


def samples(labels):
    """Data samples with labels: indices, or rows of zeros and ones."""
    return [
        ActionDataSample(metainfo=dict(filename=f'{i}.mp4')).set_gt_label(y)
        for i, y in enumerate(labels)
    ]


def data(inputs, labels=None):
    """A batch as a loader collates it."""
    labels = [0] * len(inputs) if labels is None else labels
    return dict(inputs=list(inputs), data_samples=samples(labels))
