"""Two processes learn gates from half a batch each as one from all of it."""

import os
from importlib import import_module

import pytest
import torch
import torch.distributed as torch_dist
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import nn

import mmskip
from mmskip.apis.launch import close_launcher
from mmskip.skip_conv import SkipConvMixin
from tests.helpers.ports import free_port

pytest.importorskip('mmdet')

CLIPS, FRAMES, SIZE = 2, 3, (64, 96)
MEMORIES = ('previous', 'accumulated')


def config(memory):
    """FCOS: its losses are averaged over the positives of all ranks."""
    return dict(
        type='mmskip.ConvertedModel',
        arch='FCOS',
        data_preprocessor=dict(type='DetDataPreprocessor'),
        backbone=dict(
            type='ResNet', depth=18, base_channels=8, norm_eval=True
        ),
        neck=dict(
            type='FPN',
            in_channels=[8, 16, 32, 64],
            out_channels=8,
            start_level=1,
            num_outs=3,
        ),
        bbox_head=dict(
            type='FCOSHead',
            num_classes=3,
            in_channels=8,
            feat_channels=8,
            stacked_convs=1,
            strides=[8, 16, 32],
            regress_ranges=((-1, 32), (32, 64), (64, 1e8)),
            norm_cfg=None,
        ),
        conversions=[
            dict(
                type='mmskip.SkipConversion',
                gate=dict(type='mmskip.GumbelGate', bias=0.5),
                memory=memory,
            )
        ],
        efficiency_loss=dict(type='mmskip.GateCostLoss', beta=0.3),
    )


def build(memory):
    with DefaultScope.overwrite_default_scope('mmdet'):
        import_module('mmdet.utils').register_all_modules(
            init_default_scope=False
        )
        torch.manual_seed(0)
        model = MODELS.build(config(memory)).train()
    for module in model.modules():
        if isinstance(module, SkipConvMixin):
            nn.init.normal_(module.gate.weight, std=0.02)
    return model


def make_data():
    """All clips; the first has more objects than the others together."""
    generator = torch.Generator().manual_seed(1)
    data_sample = import_module('mmdet.structures').DetDataSample
    count = 2 * CLIPS * FRAMES
    inputs = torch.randn(count, 3, *SIZE, generator=generator)
    samples = []
    for index in range(count):
        objects = 6 if index < FRAMES else 1
        corners = torch.rand(objects, 2, generator=generator) * 40
        boxes = torch.cat([corners, corners + 24], 1)
        sample = data_sample(
            metainfo=dict(img_shape=SIZE, batch_input_shape=SIZE)
        )
        labels = torch.arange(objects) % 3
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        samples.append(sample)
    return inputs, samples


class NoiseOfClips:
    """The numbers that gates draw, the same for a clip on any rank.

    Args:
        first: Number of this process's first clip.
        clips: How many it has.
    """

    def __init__(self, first, clips):
        self.first = first
        self.clips = clips
        self.call = 0

    def __call__(self, logits):
        self.call += 1
        frames = len(logits) // self.clips
        drawn = []
        for clip in range(self.first, self.first + self.clips):
            generator = torch.Generator().manual_seed(97 * self.call + clip)
            shape = (frames, *logits.shape[1:])
            drawn.append(torch.rand(shape, generator=generator))
        return torch.cat(drawn)


def step(model, inner, first, clips):
    """Losses and gradients of some clips of the data."""
    inputs, samples = make_data()
    part = slice(first * FRAMES, (first + clips) * FRAMES)
    with (
        pytest.MonkeyPatch.context() as patch,
        mmskip.clip(inner, FRAMES),
    ):
        patch.setattr('torch.rand_like', NoiseOfClips(first, clips))
        losses = model(inputs[part], samples[part], mode='loss')
    total, logged = inner.parse_losses(losses)
    total.backward()
    grads = {k: p.grad for k, p in inner.named_parameters()}
    return {k: v.detach() for k, v in logged.items()}, grads


def work(rank, folder, port):
    """One of two processes: a step of each memory."""
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch_dist.init_process_group('gloo', rank=rank, world_size=2)
    for memory in MEMORIES:
        found = step_of_a_rank(rank, memory)
        torch.save(found, folder / f'{memory}_{rank}.pth')
    close_launcher()


def step_of_a_rank(rank, memory):
    model = build(memory)
    wrapper = MMDistributedDataParallel(
        model, device_ids=None, broadcast_buffers=False
    )
    return step(wrapper, model, rank * CLIPS, CLIPS)


@pytest.fixture(scope='module')
def steps_of_ranks(tmp_path_factory):
    """Run both processes once; forks know all imports."""
    folder = tmp_path_factory.mktemp('ranks')
    port = free_port()
    # With a GPU, autograd has threads, which a fork would lack.
    method = 'spawn' if torch.cuda.is_available() else 'fork'
    torch.multiprocessing.start_processes(
        work, (folder, port), nprocs=2, start_method=method
    )
    return folder


@pytest.mark.parametrize('memory', MEMORIES)
def test_losses_and_gradients_are_those_of_one_process(memory, steps_of_ranks):
    model = build(memory)
    losses, grads = step(model, model, 0, 2 * CLIPS)

    ranks = [
        torch.load(steps_of_ranks / f'{memory}_{rank}.pth') for rank in (0, 1)
    ]
    assert {'loss', 'loss_bbox', 'loss_gate'} <= losses.keys()
    assert ranks[0][0]['loss'] != ranks[1][0]['loss']
    close = dict(rtol=1e-5, atol=1e-5)
    for name, value in losses.items():
        mean = (ranks[0][0][name] + ranks[1][0][name]) / 2
        torch.testing.assert_close(mean, value, **close)
    assert 0.2 < losses['gate_cost_hard'] < 0.8
    for name, grad in grads.items():
        for _, found in ranks:
            if grad is None:
                assert found[name] is None
            else:
                torch.testing.assert_close(found[name], grad, **close)
    gates = [g for name, g in grads.items() if '.gate.weight' in name]
    assert any(grad.any() for grad in gates)
