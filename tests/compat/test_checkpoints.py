"""Checkpoints of mmengine's Runner load; files that hold more do not."""

import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn
from torch.utils.data import Dataset

from mmskip.compat import checkpoints, load_runner_checkpoints

# The types that occur in the metainfo of mmdet, mmpose and mmaction2.
METAINFO = {
    'classes': ('a', 'b'),
    'palette': [(1, 2, 3)],
    'sigmas': np.ones(3, np.float32),
    'flip_indices': np.arange(3),
    'flags': np.array([True]),
    'names': np.array(['left', 'right']),
    'empty': np.array([], np.float32),
    'score': np.float64(0.5),
    'nested': ConfigDict(a=ConfigDict(b=1)),
}


class Points(Dataset):
    metainfo = METAINFO

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {'inputs': torch.full((2,), float(index))}


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        outputs = self.line(torch.stack(inputs))
        return {'loss': outputs.sum()} if mode == 'loss' else list(outputs)


class Mean(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [float(sample) for sample in data_samples]

    def compute_metrics(self, results):
        return {'mean': np.mean(results)}


SCHEDULERS = [
    {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'end': 2},
    {'type': 'MultiStepLR', 'milestones': [1]},
    {'type': 'CosineAnnealingLR', 'T_max': 3},
    {'type': 'CosineRestartLR', 'periods': [9], 'eta_min': 0},
    {'type': 'PolyLR'},
    {'type': 'ReduceOnPlateauLR', 'monitor': 'mean'},
    {'type': 'OneCycleLR', 'eta_max': 0.1, 'total_steps': 9},
    {
        'type': 'OneCycleLR',
        'eta_max': 1,
        'total_steps': 9,
        'anneal_strategy': 'linear',
    },
]


def make_runner(work_dir, max_epochs, **kwargs):
    loader = {
        'batch_size': 2,
        'dataset': Points(),
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
    }
    return Runner(
        Line(),
        str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        val_evaluator=[Mean()],
        test_evaluator=[Mean()],
        val_cfg={},
        test_cfg={},
        train_cfg={'by_epoch': True, 'max_epochs': max_epochs},
        optim_wrapper={'optimizer': {'type': 'AdamW', 'lr': 0.1}},
        param_scheduler=SCHEDULERS,
        default_hooks={
            'checkpoint': {
                'type': 'CheckpointHook',
                'save_best': 'mean',
                'rule': 'greater',
            },
        },
        custom_hooks=[{'type': 'EMAHook'}],
        experiment_name=work_dir.name,
        **kwargs,
    )


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('trained')
    runner = make_runner(work_dir, max_epochs=1)
    runner.train()
    return work_dir / 'epoch_1.pth', runner


@pytest.fixture
def save(tmp_path):
    """Write an object as a checkpoint, in the format of today or before."""

    def save(content, **kwargs):
        path = tmp_path / 'file.pth'
        torch.save({'state_dict': {}, 'extra': content}, path, **kwargs)
        return str(path)

    return save


class Intruder:
    """Makes a folder when it is unpickled by an unsafe reader."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Pair:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def load(path):
    return CheckpointLoader.load_checkpoint(path, map_location='cpu')


def test_torch_alone_refuses_the_checkpoint(trained):
    with pytest.raises(pickle.UnpicklingError):
        torch.load(trained[0])


def test_checkpoint_is_read_whole(trained):
    path, runner = trained
    checkpoint = load(str(path))
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    expected = runner.message_hub.get_scalar('train/loss')
    assert isinstance(history, HistoryBuffer)
    assert history.mean() == expected.mean()
    assert history.statistics('max') == expected.statistics('max')
    read, meta = checkpoint['meta']['dataset_meta'], METAINFO
    assert read['nested'] == meta['nested']
    for key in ('sigmas', 'flip_indices', 'flags', 'names', 'empty'):
        np.testing.assert_array_equal(read[key], meta[key])
        assert read[key].dtype == meta[key].dtype


def test_training_resumes(trained, tmp_path):
    path, _ = trained
    runner = make_runner(tmp_path, 2, load_from=str(path), resume=True)
    runner.train()
    assert runner.epoch == 2
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 4
    assert (tmp_path / 'epoch_2.pth').exists()


def test_checkpoint_is_tested_and_trained_from(trained, tmp_path):
    path, trainer = trained
    runner = make_runner(tmp_path, 1, load_from=str(path))
    assert runner.test() == pytest.approx(trainer.val_loop.run())
    runner.train()
    assert (tmp_path / 'epoch_1.pth').exists()


def test_best_checkpoint_is_read(trained):
    (best,) = trained[0].parent.glob('best_mean*.pth')
    assert 'best_score' in load(str(best))['message_hub']['runtime_info']


@pytest.mark.parametrize('package', ['numpy.core', 'numpy._core'])
def test_names_of_both_numpy_releases_are_known(package):
    known = {
        e[1] for e in checkpoints.checkpoint_globals() if type(e) is tuple
    }
    assert f'{package}.multiarray._reconstruct' in known
    assert f'{package}.multiarray.scalar' in known


@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_file_is_refused_and_not_run(save, tmp_path, zipped):
    intruder = Intruder(tmp_path / 'intruded')
    path = save(intruder, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError) as error:
        load(path)
    assert not (tmp_path / 'intruded').exists()
    assert path in str(error.value)
    assert 'posix.mkdir' in str(error.value)
    assert 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' in str(error.value)


@pytest.mark.parametrize(
    ('owner', 'name'),
    [
        (HistoryBuffer, '_set_default_statistics'),
        (np.ndarray, 'tofile'),
        (dict, '__class__'),
    ],
)
def test_getattr_gives_nothing_else(save, owner, name):
    path = save(Pair(getattr, owner, name))
    with pytest.raises(pickle.UnpicklingError, match='was not loaded'):
        load(path)


def test_getattr_chain_is_refused(save):
    inner = Pair(getattr, HistoryBuffer, 'mean')
    path = save(Pair(getattr, inner, '__globals__'))
    with pytest.raises(
        pickle.UnpicklingError, match=r'holds HistoryBuffer\.mean\.__globals__'
    ):
        load(path)


def test_result_of_getattr_is_not_called(save):
    class Call:
        def __reduce__(self):
            return HistoryBuffer.mean, (1,)

    with pytest.raises(pickle.UnpicklingError, match='was not loaded'):
        load(save(Call()))


def test_user_may_allow_more(save):
    path = save(Pair(os.path.basename, 'a/b'))
    with torch.serialization.safe_globals([os.path.basename]):
        assert load(path)['extra'] == 'b'


def test_user_may_trust_a_file(save, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    assert load(save(Pair(os.path.basename, 'a/b')))['extra'] == 'b'


def test_allow_list_of_torch_stays_as_it_was(trained):
    with torch.serialization.safe_globals([HistoryBuffer]):
        before = set(torch.serialization.get_safe_globals())
        load(str(trained[0]))
        assert set(torch.serialization.get_safe_globals()) == before


def test_file_that_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / 'page.pth'
    path.write_text('<html>not found</html>')
    with pytest.raises(pickle.UnpicklingError, match=r'page\.pth was not'):
        load(str(path))


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match='can not be found'):
        load(str(tmp_path / 'nothing.pth'))


def test_loader_of_somebody_else_is_kept(monkeypatch):
    def other(filename, map_location):
        return filename

    monkeypatch.setattr(
        CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes)
    )
    CheckpointLoader.register_scheme('', loader=other, force=True)
    load_runner_checkpoints()
    assert CheckpointLoader._schemes[''] is other


def test_loader_is_replaced_once(monkeypatch):
    schemes = dict(CheckpointLoader._schemes)
    schemes[''] = mmengine_checkpoint.load_from_local
    monkeypatch.setattr(CheckpointLoader, '_schemes', schemes)
    load_runner_checkpoints()
    load_runner_checkpoints()
    loader = CheckpointLoader._schemes['']
    assert loader is checkpoints.load_from_local
