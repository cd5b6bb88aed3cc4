"""Figures of cameras as Prometheus reads them."""

import sys
import time
from types import SimpleNamespace
from urllib.request import urlopen

import numpy as np
import pytest
from mmengine.structures import BaseDataElement

from mmskip.core import MacCount
from mmskip.reading import InputError
from mmskip.video import FrameResult, Metrics

parser = pytest.importorskip('prometheus_client.parser')


def result(index=0, spent=2e9, dense=8e9, **options):
    return FrameResult(
        index=index,
        frame=np.zeros((4, 4, 3), np.uint8),
        prediction=BaseDataElement(),
        cost=MacCount(dense, spent, 0, 0),
        computed_mask=None,
        seconds=0.03,
        **options,
    )


def reader(dropped=0, reconnects=0, damaged=0):
    return SimpleNamespace(
        dropped=dropped, reconnects=reconnects, damaged=damaged
    )


@pytest.fixture
def metrics():
    with Metrics(0) as opened:
        yield opened


def read(metrics):
    """Ask the server; figures by name and camera."""
    address = f'http://127.0.0.1:{metrics.port}/metrics'
    with urlopen(address, timeout=10) as answer:
        text = answer.read().decode()
    families = parser.text_string_to_metric_families(text)
    return {
        (found.name.removeprefix('mmskip_'), *found.labels.values()): (
            found.value
        )
        for family in families
        for found in family.samples
    }


def test_frames_are_counted_for_each_camera(metrics):
    for index in range(3):
        metrics.observe('door', result(index), reader())
    metrics.observe('gate', result(restart='scene cut'), reader())
    found = read(metrics)
    assert found['frames_total', 'door'] == 3
    assert found['frames_total', 'gate'] == 1
    assert found['reference_frames_total', 'door'] == 0
    assert found['reference_frames_total', 'gate'] == 1


def test_cost_is_that_of_the_newest_frame(metrics):
    metrics.observe('door', result(spent=8e9), reader())
    metrics.observe('door', result(spent=2e9), reader())
    found = read(metrics)
    assert found['gmac_per_frame', 'door'] == 2
    assert found['cost_share', 'door'] == 0.25


def test_counters_are_those_of_the_reader(metrics):
    metrics.observe('door', result(), reader(3, 1, 2))
    metrics.observe('door', result(), reader(5, 1, 4))
    found = read(metrics)
    names = ('dropped_total', 'reconnects_total', 'damaged_total')
    assert [found[name, 'door'] for name in names] == [5, 1, 4]


def test_counters_go_on_with_a_new_reader(metrics):
    metrics.observe('door', result(), reader(dropped=5))
    metrics.observe('door', result(), reader(dropped=2))
    metrics.observe('door', result(), reader(dropped=4))
    assert read(metrics)['dropped_total', 'door'] == 9


def test_a_reader_without_counters_has_none(metrics):
    metrics.observe('folder', result(), object())
    assert read(metrics)['dropped_total', 'folder'] == 0


def test_latency_of_a_file_is_the_time_of_the_model(metrics):
    metrics.observe('file', result(time=3.0), reader())
    found = read(metrics)
    assert found['latency_seconds_count', 'file'] == 1
    assert found['latency_seconds_sum', 'file'] == pytest.approx(0.03)
    assert found['latency_seconds_bucket', 'file', '0.02'] == 0
    assert found['latency_seconds_bucket', 'file', '0.04'] == 1


def test_latency_and_age_of_a_live_source_begin_when_a_frame_arrives(metrics):
    metrics.observe('live', result(time=time.time() - 0.4), reader())
    found = read(metrics)
    assert 0.4 <= found['latency_seconds_sum', 'live'] < 5
    first = found['result_age_seconds', 'live']
    assert 0.4 <= first < 10
    time.sleep(0.05)
    assert read(metrics)['result_age_seconds', 'live'] >= first + 0.05


def test_the_port_is_free_after_closing():
    with Metrics(0) as first:
        port = first.port
    with Metrics(port) as second:
        assert second.port == port


def test_a_port_in_use_is_refused(metrics):
    with pytest.raises(InputError, match=f'127.0.0.1:{metrics.port}: '):
        Metrics(metrics.port)


def test_a_port_that_cannot_be_is_refused():
    with pytest.raises(InputError, match='choose another port'):
        Metrics(70000)


def test_two_servers_tell_their_own_figures(metrics):
    with Metrics(0) as other:
        other.observe('door', result(), reader())
        assert ('frames_total', 'door') in read(other)
        assert ('frames_total', 'door') not in read(metrics)


def test_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, 'prometheus_client', None)
    with pytest.raises(InputError, match=r"pip install 'mmskip\[cameras\]'"):
        Metrics(0)
