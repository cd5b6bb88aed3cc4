"""Checkpoints of mmengine's Runner load; files that hold more do not."""

import os
import pickle
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from shutil import copyfile
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel, Sequential
from mmengine.runner import Runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn
from torch.utils.data import Dataset

from mmskip.compat import checkpoints, load_runner_checkpoints
from tests.helpers.pickle_attacks import ARRAYS, CODE, FLOAT, NULL, Call

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
    path = save(Call(getattr, owner, name))
    with pytest.raises(pickle.UnpicklingError, match='was not loaded'):
        load(path)


def test_getattr_chain_is_refused(save):
    inner = Call(getattr, HistoryBuffer, 'mean')
    path = save(Call(getattr, inner, '__globals__'))
    with pytest.raises(
        pickle.UnpicklingError, match=r'holds HistoryBuffer\.mean\.__globals__'
    ):
        load(path)


def test_result_of_getattr_is_not_called(save):
    with pytest.raises(pickle.UnpicklingError, match='was not loaded'):
        load(save(Call(HistoryBuffer.mean, 1)))


def test_user_may_allow_more(save):
    path = save(Call(os.path.basename, 'a/b'))
    with torch.serialization.safe_globals([os.path.basename]):
        assert load(path)['extra'] == 'b'


def test_user_may_trust_a_file(save, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    assert load(save(Call(os.path.basename, 'a/b')))['extra'] == 'b'


def test_allow_list_of_torch_stays_as_it_was(trained):
    with torch.serialization.safe_globals([HistoryBuffer]):
        before = set(torch.serialization.get_safe_globals())
        load(str(trained[0]))
        assert set(torch.serialization.get_safe_globals()) == before


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match='can not be found'):
        load(str(tmp_path / 'nothing.pth'))


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('name', [*ARRAYS, *CODE])
def test_bytes_do_not_become_pointers(
    save, tmp_path, monkeypatch, name, zipped
):
    monkeypatch.chdir(tmp_path)
    attack = {**ARRAYS, **CODE}[name]
    path = save(attack, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError, match=r'file\.pth was not'):
        load(path)
    assert not (tmp_path / 'intruded').exists()


def test_attributes_of_a_dtype_are_not_believed(save):
    """torch sets attributes of whatever one of its functions returns."""
    kind = Call(
        torch._tensor._rebuild_from_type_v2,
        np.dtype, np.dtype, ('f8',), {'value': 'O'},
    )  # fmt: skip
    scalar = np.core.multiarray.scalar
    assert load(save(Call(scalar, FLOAT, NULL)))['extra'] == 0
    with pytest.raises(pickle.UnpicklingError, match='was not loaded'):
        load(save(Call(scalar, kind, NULL)))


def test_what_somebody_allowed_of_numpy_is_taken_for_the_same(save, trained):
    """Ours are not mixed with those that a file could misuse."""
    numpys = [np.ndarray, np.dtype, np.core.multiarray.scalar]
    with torch.serialization.safe_globals(numpys):
        with pytest.raises(pickle.UnpicklingError, match='was not loaded'):
            load(save(ARRAYS['ndarray of objects']))
        load(str(trained[0]))
        assert {*numpys} <= {*torch.serialization.get_safe_globals()}


@pytest.mark.parametrize('zipped', [True, False])
def test_arrays_are_numpys_own(save, zipped):
    arrays = [np.ones(2), np.float32(3), np.dtype('i4'), np.array(['a'])]
    content = {'a': arrays, 'b': (1, ({'c': arrays[0]},)), 'd': ConfigDict()}
    content['d'].e = arrays[3]
    read = load(save(content, _use_new_zipfile_serialization=zipped))['extra']
    for found, expected in zip(read['a'], arrays, strict=True):
        assert type(found) is type(expected)
    assert type(read['b'][1][0]['c']) is np.ndarray
    assert read['b'][1][0]['c'] is read['a'][0]
    assert type(read['d'].e) is np.ndarray


def test_loads_in_threads_do_not_disturb_each_other(trained):
    before = set(torch.serialization.get_safe_globals())
    with ThreadPoolExecutor(4) as pool:
        for read in pool.map(load, [str(trained[0])] * 12):
            assert 'message_hub' in read
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_config_in_a_checkpoint_is_not_run(trained, tmp_path):
    """Runner.resume runs meta['config'] as Python."""
    content = torch.load(trained[0], weights_only=False)
    content['meta']['config'] = f"import os; os.mkdir('{tmp_path}/intruded')"
    path = tmp_path / 'old.pth'
    torch.save(content, path)
    work = tmp_path / 'work'
    make_runner(work, 2, load_from=str(path), resume=True).train()
    assert (work / 'epoch_2.pth').exists()
    assert not (tmp_path / 'intruded').exists()
    assert 'os.mkdir' in load(str(path))['meta']['config_text']


def test_a_config_does_not_hide_behind_attributes(tmp_path):
    hidden = {'get': set, 'pop': set}
    meta = Call(OrderedDict, [('config', '1 / 0')], state=hidden)
    content = Call(OrderedDict, [('meta', meta)], state=hidden)
    torch.save(content, tmp_path / 'a.pth')
    read = load(str(tmp_path / 'a.pth'))
    assert read['meta'].pop is set
    assert [*read['meta']] == ['config_text']


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Serve a folder, and give mmengine names for what lies there."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'home'))
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = partial(QuietHandler, directory=folder)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        address = f'http://127.0.0.1:{server.server_port}/a.pth'
        names = {'named': address, 'local': 'here.pth'}
        for lookup in ('external', 'torchvision', 'mmcls'):
            monkeypatch.setattr(
                mmengine_checkpoint, f'get_{lookup}_models', lambda: names
            )
        yield folder / 'a.pth', address
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Store:
    """What load_from_ceph reads from."""

    def __init__(self, file):
        self.file = file

    def get(self, _):
        return self.file.read_bytes()


class Model:
    """What load_from_pavi downloads."""

    name = 'a.pth'

    def __init__(self, file):
        self.file = file

    def download(self, path):
        copyfile(self.file, path)


SCHEMES = [
    'http', 'torchvision://named', 'modelzoo://named', 'open-mmlab://named',
    'openmmlab://named', 'openmmlab://local', 'mmcls://named', 's3://a.pth',
    'petrel://a.pth', 'pavi://a.pth',
]  # fmt: skip


@pytest.fixture(params=SCHEMES)
def published(request, serve, tmp_path, monkeypatch):
    """Put a file where an address leads to; returns the address."""
    file, address = serve
    (tmp_path / 'home').mkdir()
    (tmp_path / 'home/here.pth').symlink_to(file)
    monkeypatch.setattr(
        mmengine_checkpoint, 'get_file_backend', lambda *_, **__: Store(file)
    )
    cloud = SimpleNamespace(get=lambda _: Model(file))
    monkeypatch.setitem(sys.modules, 'pavi', SimpleNamespace(modelcloud=cloud))
    return file, address if request.param == 'http' else request.param


def test_code_is_refused_by_whatever_scheme_it_comes(published, tmp_path):
    file, address = published
    torch.save({'state_dict': {}, 'extra': Intruder(tmp_path / 'x')}, file)
    with pytest.raises(pickle.UnpicklingError, match=r'holds posix\.mkdir'):
        load(address)
    assert not (tmp_path / 'x').exists()


def test_a_runner_checkpoint_is_read_by_whatever_scheme(published, trained):
    file, address = published
    copyfile(trained[0], file)
    if address.startswith('mmcls'):  # gives the backbone only
        assert load(address) == {'state_dict': {}}
    else:
        assert isinstance(
            load(address)['message_hub']['log_scalars']['train/loss'],
            HistoryBuffer,
        )


def test_weights_of_a_backbone_are_read_safely(serve, tmp_path):
    file, address = serve
    torch.save({'state_dict': {}, 'extra': Intruder(tmp_path / 'x')}, file)
    init_cfg = {'type': 'Pretrained', 'checkpoint': address}
    net = Sequential(nn.Linear(1, 1), init_cfg=init_cfg)
    with pytest.raises(pickle.UnpicklingError, match='was not loaded'):
        net.init_weights()
    assert not (tmp_path / 'x').exists()


def test_a_download_that_fails_is_named(serve):
    _, address = serve
    with pytest.raises(OSError, match=f'{address}.* was not downloaded'):
        load(address)
    with pytest.raises(pickle.UnpicklingError, match='no model of this name'):
        load('open-mmlab://unknown')


def test_a_broken_copy_is_named(serve, tmp_path):
    file, address = serve
    file.write_bytes(b'')
    with pytest.raises(pickle.UnpicklingError) as error:
        load(address)
    assert f'{tmp_path}/cache/hub/checkpoints/a.pth' in str(error.value)
    assert address in str(error.value)


def test_the_user_may_trust_a_download(serve, monkeypatch):
    file, address = serve
    torch.save({'extra': Call(os.path.basename, 'a/b')}, file)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    assert load(address)['extra'] == 'b'


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
