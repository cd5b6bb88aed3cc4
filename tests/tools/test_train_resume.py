"""A training that was killed ends like one that was not."""

import pytest
import torch

from mmskip.apis.errors import EXIT_OK
from tests.tools.learned import (
    EPOCHS,
    ITERATIONS,
    train_arguments,
    write_config,
)


def train(load_tool, config, work_dir, options, *more):
    argv = train_arguments(config, work_dir, options, *more)
    assert load_tool('train').main(argv) == EXIT_OK


def tensors(node, path=''):
    """All tensors and numbers of a checkpoint that training depends on."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from tensors(value, f'{path}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from tensors(value, f'{path}.{index}')
    elif isinstance(node, (torch.Tensor, int, float)):
        yield path, torch.as_tensor(node)


def state(path):
    saved = torch.load(path, weights_only=False)
    parts = ('state_dict', 'optimizer', 'param_schedulers')
    return dict(tensors({part: saved[part] for part in parts}))


@pytest.mark.usefixtures('one_thread')
@pytest.mark.parametrize(
    ('schedule', 'workers', 'kept', 'last'),
    [
        (EPOCHS, 0, 'epoch_1.pth', 'epoch_3.pth'),
        (EPOCHS, 2, 'epoch_1.pth', 'epoch_3.pth'),
        (ITERATIONS, 0, 'iter_4.pth', 'iter_6.pth'),
    ],
)
def test_a_killed_run_resumes_to_the_same_weights(
    setup, load_tool, train_until_killed, tmp_path,
    schedule, workers, kept, last,
):  # fmt: skip
    config = write_config(setup, schedule)
    options = (
        f'train_dataloader.num_workers={workers}',
        f'train_dataloader.persistent_workers={workers > 0}',
    )
    train(load_tool, config, tmp_path / 'whole', options)

    broken = tmp_path / 'broken'
    # In the second of epochs of three clips.
    train_until_killed(4, config, broken, options)
    assert sorted(p.name for p in broken.glob('*.pth'))[-1] == kept
    train(load_tool, config, broken, options, '--resume')

    expected = state(tmp_path / 'whole' / last)
    found = state(broken / last)
    assert expected.keys() == found.keys()
    assert any('.gate.' in key for key in found)
    different = [k for k, v in expected.items() if not v.equal(found[k])]
    assert different == []


def test_without_the_hook_it_would_not(setup, load_tool, tmp_path):
    config = write_config(setup)
    options = ['custom_hooks.1.type=DieOfTests']
    train(load_tool, config, tmp_path / 'whole', options)
    first = tmp_path / 'whole' / 'epoch_2.pth'
    train(
        load_tool, config, tmp_path / 'broken', options,
        '--resume', str(first),
    )  # fmt: skip

    expected = state(tmp_path / 'whole' / 'epoch_3.pth')
    found = state(tmp_path / 'broken' / 'epoch_3.pth')
    assert any(not v.equal(found[k]) for k, v in expected.items())
