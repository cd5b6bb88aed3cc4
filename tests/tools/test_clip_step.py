import json

import pytest
import torch

from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK, run_tool
from tests.tools.learned import write_config


@pytest.fixture
def tool(load_tool):
    return load_tool('benchmarks/clip_step')


@pytest.mark.filterwarnings('ignore:Memory block of unknown size')
def test_time_and_memory_of_both_models_are_compared(setup, tool, capsys):
    argv = [
        write_config(setup), '--size', '64', '48', '--repeats', '2',
        '--json', 'a.json',
    ]  # fmt: skip
    assert tool.main(argv) == EXIT_OK

    with open('a.json') as file:
        result = json.load(file)
    dense, clips = result['variants']['dense'], result['variants']['clips']
    assert (result['clips'], result['frames']) == (2, 4)
    assert len(dense['all_seconds']) == len(clips['all_seconds']) == 2
    assert min(dense['seconds'], dense['cpu_seconds']) > 0
    assert result['memory_ratio'] == clips['peak_bytes'] / dense['peak_bytes']
    assert result['memory_ratio'] > 1
    assert 'clips / dense' in capsys.readouterr().out


def test_peak_memory_is_that_of_tensors_alive_together(tool):
    size = 1000

    def step():
        first = torch.ones(size)
        second = first * 2
        del first
        third = torch.ones(2 * size)
        del second
        torch.ones(2 * size).add_(third)

    # The second with the third, then the third with the last.
    step()
    assert tool.peak_memory(step, 'cpu') == pytest.approx(16 * size, abs=64)


def test_a_model_that_is_not_converted_is_a_mistake(setup, tool, capsys):
    argv = [
        write_config(setup), '--cfg-options', 'model.type=RetinaNet'
    ]  # fmt: skip
    assert run_tool(tool.main, 'clip_step', argv) == EXIT_MISTAKE
    assert 'mmskip.ConvertedModel' in capsys.readouterr().err
