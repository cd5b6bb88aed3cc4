"""The hook inside the loops of mmengine's Runner."""

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

import mmskip
from mmskip.evaluation import ComputeCost
from tests.helpers.nets import TinyNet


class Detector(BaseModel):
    """A model as the stock loops call it."""

    def __init__(self):
        super().__init__()
        self.net = TinyNet()
        self.seen = []

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = torch.stack(inputs)
        self.seen.append(
            (mode, len(x), bool(vars(self.net.stem).get('_binding')))
        )
        output = self.net(x)
        if mode == 'loss':
            return dict(loss=output.square().mean())
        return data_samples


class Nothing(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [0] * len(data_samples)

    def compute_metrics(self, results):
        return dict(seen=len(results))


class Frames(torch.utils.data.Dataset):
    """Two videos of three frames that never change."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        sample = BaseDataElement(metainfo=dict(video_id=index // 3))
        return dict(inputs=torch.ones(TinyNet.shape), data_samples=sample)


@pytest.fixture
def _own_scope():
    # A Runner sets the default scope of the process; undo that.
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


@pytest.mark.usefixtures('_own_scope')
def test_the_stock_loops_train_in_clips_and_evaluate_in_streams(tmp_path):
    model = Detector()
    mmskip.convert(
        model, mmskip.SkipConversion(dict(type='InputNormGate', threshold=0))
    )

    def loader(batch):
        return dict(
            dataset=Frames(),
            batch_size=batch,
            num_workers=0,
            collate_fn=dict(type='pseudo_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        )

    runner = Runner(
        model,
        str(tmp_path),
        train_dataloader=loader(3),
        val_dataloader=loader(2),
        test_dataloader=loader(1),
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
        val_cfg=dict(),
        test_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-9)),
        val_evaluator=Evaluator([Nothing(), ComputeCost()]),
        test_evaluator=Evaluator([Nothing(), ComputeCost()]),
        custom_hooks=[dict(type='mmskip.VideoHook', num_frames=3)],
        default_scope='mmengine',
        experiment_name=tmp_path.name,
        log_level='ERROR',
    )
    runner.train()
    metrics = runner.test()

    train, val = [('loss', 3, True)] * 2, [('predict', 2, True)] * 3
    assert model.seen == (train + val) * 2 + [('predict', 1, True)] * 6
    assert metrics['seen'] == metrics['cost/frames'] == 6
    # Of each video all but the first frame cost the gates only.
    converted = TinyNet.dense - TinyNet.macs['classifier']
    spent = (
        2 * converted
        + 6 * TinyNet.macs['classifier']
        + 4 * sum(TinyNet.gate_macs.values())
    )
    assert metrics['cost/gmac'] == pytest.approx(spent / 6 / 1e9)
    assert metrics['cost/dense_gmac'] == TinyNet.dense / 1e9
