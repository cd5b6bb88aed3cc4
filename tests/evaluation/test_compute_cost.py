"""What a model's predictions cost."""

import json

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from torch import nn

import mmskip
from mmskip.core import MacLedger
from mmskip.evaluation import ComputeCost
from tests.helpers.convs import make_video
from tests.helpers.nets import TinyNet, skipping
from tests.helpers.runs import run_stream

GIGA = 10**9


@pytest.fixture
def ledger():
    """4 frames: 40 G dense, 10 G executed of them 8 G reference, 2 G gates."""
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    ledger = MacLedger({first: 'first', second: 'second'})
    ledger.begin_forward()
    ledger.note_batch(4)
    ledger.record(first, 30 * GIGA, 6 * GIGA, 2 * GIGA, 5 * GIGA)
    ledger.record(second, 10 * GIGA, torch.tensor(4 * GIGA), 0, 3 * GIGA)
    ledger.record_uncounted('LSTM')
    return ledger


FIGURES = dict(
    gmac=12 / 4,
    dense_gmac=40 / 4,
    reduction=40 / 12,
    gate_share=2 / 12,
    reference_share=8 / 12,
    frames=4,
)


def evaluate(ledger, **options):
    metric = ComputeCost(**options)
    metric.ledger = ledger
    return metric.evaluate(size=4)


def test_the_figures_are_those_of_the_ledger(ledger):
    expected = {f'cost/{key}': value for key, value in FIGURES.items()}

    assert evaluate(ledger) == expected


def test_the_figures_are_the_same_whatever_the_size_of_the_data(ledger):
    metric = ComputeCost()
    metric.ledger = ledger

    assert metric.evaluate(size=0) == metric.evaluate(size=100)


def test_a_prefix_tells_several_costs_apart(ledger):
    assert evaluate(ledger, prefix='skip')['skip/gmac'] == 3


def test_a_real_stream_gives_its_closed_form():
    net = skipping(TinyNet(), threshold=1e9)

    _, macs = run_stream(net, make_video(4, 2, *TinyNet.shape))
    figures = evaluate(macs)

    fc = TinyNet.macs['classifier']
    gates = 3 * sum(TinyNet.gate_macs.values())
    reference = TinyNet.dense - fc
    spent = reference + 4 * fc + gates
    assert figures['cost/frames'] == 8
    assert figures['cost/gmac'] == pytest.approx(spent / 4 / 1e9)
    assert figures['cost/dense_gmac'] == pytest.approx(TinyNet.dense / 1e9)
    assert figures['cost/reduction'] == pytest.approx(
        4 * TinyNet.dense / spent
    )
    assert figures['cost/gate_share'] == pytest.approx(gates / spent)
    assert figures['cost/reference_share'] == pytest.approx(reference / spent)


def result_of(ledger):
    """What one rank sends: the metric, stopped before it collects."""
    sent = []
    metric = ComputeCost()
    metric.ledger = ledger
    metric.compute_metrics = lambda results: sent.extend(results) or {}
    metric.evaluate(size=1)
    return sent[0]


def test_the_ledgers_of_two_ranks_are_summed():
    net = skipping(TinyNet(), threshold=15.0)
    videos = [make_video(n, 1, *TinyNet.shape, share=0.1) for n in (5, 2)]
    ledgers = [run_stream(net, video)[1] for video in videos]

    figures = ComputeCost().compute_metrics([result_of(m) for m in ledgers])

    total = mmskip.MacCount.sum(macs.total() for macs in ledgers)
    assert figures['frames'] == 7
    assert figures['gmac'] == total.spent / 7 / 1e9
    assert figures['dense_gmac'] == total.dense / 7 / 1e9
    assert figures['reduction'] == total.reduction


def test_a_rank_without_frames_does_not_change_the_figures(ledger):
    results = [result_of(ledger), result_of(MacLedger({}))]

    assert ComputeCost().compute_metrics(results) == FIGURES


def test_one_result_is_collected_from_each_rank(ledger, monkeypatch):
    # A rank may see more or fewer samples than the others.
    module = ComputeCost.evaluate.__globals__
    monkeypatch.setitem(module, 'get_world_size', lambda: 2)
    metric, sizes = ComputeCost(), []
    metric.ledger = ledger

    def collect(results, size, *_, **__):
        sizes.append((len(results), size))
        return results * 2

    base = super(ComputeCost, metric).evaluate.__func__.__globals__
    monkeypatch.setitem(base, 'collect_results', collect)

    assert metric.evaluate(size=11)['cost/frames'] == 8
    assert sizes == [(1, 2)]


def test_the_file_holds_the_figures_and_every_layer(ledger, tmp_path):
    path = tmp_path / 'new' / 'cost.json'

    evaluate(ledger, out_file=str(path))
    report = json.loads(path.read_text())

    layers = report.pop('layers')
    assert report == dict(FIGURES, uncounted={'LSTM': 1})
    assert list(layers) == ['first', 'second']
    assert layers['first'] == dict(
        dense=30 * GIGA,
        executed=6 * GIGA,
        overhead=2 * GIGA,
        reference=5 * GIGA,
        firing_rate=1 / 25,
    )


def test_no_hook_is_an_error_that_says_what_to_add():
    with pytest.raises(RuntimeError, match=r'mmskip\.VideoHook'):
        ComputeCost().evaluate(size=1)


def test_no_frame_is_an_error_and_not_a_figure():
    with pytest.raises(RuntimeError, match='call the model itself'):
        evaluate(MacLedger({}))


def test_the_cost_stands_beside_the_other_metrics(ledger):
    cost = METRICS.build(dict(type='mmskip.ComputeCost'))
    cost.ledger = ledger
    evaluator = Evaluator([cost])

    evaluator.process(data_samples=[], data_batch={})

    assert evaluator.evaluate(4)['cost/gmac'] == 3
