"""What every test shares."""

import functools
import gc
import signal

import pytest
import torch
from mmengine.config import utils
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Seed the CPU alone: for devices, torch formats three call stacks."""
    torch.default_generator.manual_seed(0)


@pytest.fixture(autouse=True, scope='session')
def _hear_ctrl_c():
    """Shells start what runs in the background deaf to it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope='session')
def _one_thread():
    """Threads only slow tiny tensors down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope='module')
def _same_default_scope():
    """Take back the scope that a config has set for the whole process.

    With it, the next file's heads look for their losses in another host.
    """
    before = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


@pytest.hookimpl
def pytest_pycollect_makemodule():
    """Leave what is imported out of the garbage collection.

    mmengine collects whenever it makes a data set, which takes the better
    part of a second with all the hosts' modules in memory.
    """
    gc.freeze()


@pytest.fixture(autouse=True, scope='module')
def _quick_garbage_collection():
    """The same for what the tests of the last file have imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope='session')
def _quick_configs():
    """Take what mmengine does to every config, and no test looks at.

    A runner formats its config four times, and a config of a host is found
    by reading all the host's metafiles: together most of a small run.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            'mmengine.config.config.FormatCode', lambda text, **_: (text, True)
        )
        find = functools.cache(utils._get_cfg_metainfo)
        patch.setattr(utils, '_get_cfg_metainfo', find)
        yield
