"""The hook inside the loops of mmengine's Runner."""

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

import mmskip
from mmskip.evaluation import ComputeCost
from mmskip.reading import InputError
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
        for sample, scores in zip(data_samples, output, strict=True):
            sample.set_field(scores, 'pred_scores')
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


class Videos(BaseDataset):
    """Three videos that change a little, or images of the same pixels."""

    def __init__(self, told=True):
        self.told = told
        self.images = [
            torch.rand(TinyNet.shape) * 0.1 + video
            for video in range(3)
            for _ in range(4)
        ]
        super().__init__(pipeline=[self.pack], test_mode=True)

    def load_data_list(self):
        infos = [dict(img_path=f'val2017/{n}.jpg') for n in range(12)]
        if self.told:
            for n, info in enumerate(infos):
                info.update(video_id=n // 4, frame_id=n % 4)
        return infos

    def pack(self, info):
        return dict(
            inputs=self.images[info['sample_idx']],
            data_samples=BaseDataElement(metainfo=info),
        )


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


class Scores(BaseMetric):
    """What the model said of each sample."""

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            self.results.append((sample['img_path'], sample['pred_scores']))

    def compute_metrics(self, results):
        self.found = dict(results)
        return {}


@pytest.fixture
def model():
    model = Detector()
    gate = dict(type='OutputNormGate', threshold=0.7, relative=True)
    mmskip.convert(model, mmskip.SkipConversion(gate))
    return model


@pytest.fixture
def run_test(model, tmp_path):
    """Test a model; returns its outputs by file, and the metrics."""
    names = (f'{tmp_path.name}_{n}' for n in range(99))

    def run(dataset, sampler, batch=1):
        scores = Scores()
        runner = Runner(
            model,
            str(tmp_path),
            test_dataloader=loader_of(dataset, sampler, batch),
            test_cfg=dict(),
            test_evaluator=Evaluator([scores, ComputeCost()]),
            custom_hooks=[dict(type='mmskip.VideoHook')],
            default_scope='mmengine',
            experiment_name=next(names),
            log_level='ERROR',
        )
        metrics = runner.test()
        return scores.found, metrics

    return run


def loader_of(dataset, sampler, batch=1):
    return dict(
        dataset=dataset,
        batch_size=batch,
        num_workers=0,
        collate_fn=dict(type='pseudo_collate'),
        sampler=sampler,
    )


IN_ORDER = dict(type='mmskip.VideoOrderSampler')
DEFAULT = dict(type='DefaultSampler', shuffle=False)
SHUFFLED = dict(type='DefaultSampler', shuffle=True)


@pytest.mark.usefixtures('_own_scope')
@pytest.mark.parametrize('batch', [1, 5])
def test_a_loader_gives_the_results_of_the_videos_or_is_refused(
    run_test, monkeypatch, batch
):
    dataset = Videos()
    expected, metrics = run_test(dataset, IN_ORDER)
    assert 1.2 < metrics['cost/reduction'] < 3

    found, same = run_test(dataset, DEFAULT, batch)
    assert same == pytest.approx(metrics)
    torch.testing.assert_close(found, expected)
    with pytest.raises(InputError, match=r'VideoOrderSampler.* into test_dat'):
        run_test(dataset, SHUFFLED, batch)
    for rank in range(2):
        monkeypatch.setattr(
            'mmengine.dataset.sampler.get_dist_info',
            lambda rank=rank: (rank, 2),
        )
        with pytest.raises(InputError, match=r'frame [12] of 0 comes in the'):
            run_test(dataset, DEFAULT, batch)


@pytest.mark.usefixtures('_own_scope')
@pytest.mark.parametrize('sampler', [IN_ORDER, DEFAULT, SHUFFLED])
def test_unrelated_images_give_the_results_of_the_dense_model(
    run_test, model, sampler
):
    dataset = Videos(told=False)

    found, metrics = run_test(dataset, sampler)

    for info, image in zip(dataset, dataset.images, strict=True):
        path = info['data_samples'].img_path
        torch.testing.assert_close(found[path], model.net(image[None])[0])
    assert metrics['cost/gmac'] == metrics['cost/dense_gmac']


@pytest.mark.usefixtures('_own_scope')
def test_no_training_begins_whose_val_loader_is_out_of_order(model, tmp_path):
    runner = Runner(
        model,
        str(tmp_path),
        train_dataloader=loader_of(Videos(), SHUFFLED),
        val_dataloader=loader_of(Videos(), SHUFFLED),
        train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-9)),
        val_evaluator=Evaluator([Nothing()]),
        custom_hooks=[dict(type='mmskip.VideoHook')],
        default_scope='mmengine',
        experiment_name=tmp_path.name,
        log_level='ERROR',
    )

    with pytest.raises(InputError, match='val_dataloader: expected whole vid'):
        runner.train()

    assert not model.seen
