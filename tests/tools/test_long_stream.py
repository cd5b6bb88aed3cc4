import pytest

from mmskip.apis.errors import EXIT_OK
from mmskip.native import library as native
from mmskip.skip_conv import MEMORY_RULES

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)


@pytest.fixture
def tool(load_tool):
    return load_tool('benchmarks/long_stream')


@pytest.mark.parametrize('propagates', [False, True])
@pytest.mark.parametrize('rule', MEMORY_RULES)
def test_the_native_backend_drifts_no_more_than_the_reference(
    rule, propagates, tool, monkeypatch
):
    deviations = {}
    for backend in ('reference', 'native'):
        monkeypatch.setenv('MMSKIP_BACKEND', backend)
        looks = tool.watch(rule, 12, 300, 100, propagates)
        assert [look.frame for look in looks] == [100, 200, 300]
        deviations[backend] = max(look.deviation for look in looks)

    assert deviations['reference'] < 1e-4
    assert deviations['native'] <= 2 * max(deviations['reference'], 1e-6)


@pytest.mark.parametrize('propagates', [False, True])
def test_a_stream_does_not_grow(propagates, tool, monkeypatch):
    monkeypatch.setenv('MMSKIP_BACKEND', 'native')

    looks = tool.watch('accumulated', 16, 1200, 200, propagates)

    # What leaks in a frame is at least a memory or a mask of 1 KiB.
    assert looks[-1].resident - looks[0].resident < 2**19


def test_the_command_shows_all_of_them(tool, monkeypatch, capsys):
    monkeypatch.setenv('MMSKIP_BACKEND', 'native')  # undone after the test

    assert tool.main(['--frames', '6', '--looks', '2']) == EXIT_OK
    text = capsys.readouterr().out
    for backend in ('reference', 'native', 'propagation'):
        assert text.count(backend) == 4
