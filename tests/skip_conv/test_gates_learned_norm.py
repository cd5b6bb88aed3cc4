"""Norm gates that learn their threshold are norm gates in inference."""

import copy
import math

import pytest
import torch

import mmskip
from mmskip.skip_conv import GumbelNormGate, LearnedNormGate, skip_conv
from mmskip.skip_conv.gate_mask import GatePlace
from tests.helpers.convs import make_video

CONVS = [dict(kernel_size=1), dict(kernel_size=3, padding=1, stride=2)]


def converted(gate, seed=0, **options):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, **options), torch.nn.Conv2d(8, 4, 1)
    ).eval()
    skip = mmskip.SkipConversion(gate=gate, memory='accumulated')
    mmskip.convert(model, skip)
    return model


def outputs_and_macs(model, video):
    with (
        torch.no_grad(),
        mmskip.count_macs(model) as ledger,
        mmskip.stream(model),
    ):
        outputs = [model(frame) for frame in video]
    return torch.stack(outputs), ledger.total()


@pytest.mark.parametrize('options', CONVS)
@pytest.mark.parametrize('relative', [True, False])
@pytest.mark.parametrize('norm', ['Output', 'Input'])
@pytest.mark.parametrize('backend', ['native', 'reference'])
def test_before_it_learns_it_is_the_norm_gate(
    norm, relative, options, backend, monkeypatch
):
    monkeypatch.setenv('MMSKIP_BACKEND', backend)
    settings = dict(threshold=0.3, order=2, relative=relative)
    learned = converted(
        dict(type='LearnedNormGate', norm=norm.lower(), **settings), **options
    )
    plain = converted(dict(type=f'{norm}NormGate', **settings), **options)
    plain.load_state_dict(learned.state_dict(), strict=False)
    video = make_video(6, 1, 3, 12, 16)

    outputs, macs = outputs_and_macs(learned, video)
    expected, known = outputs_and_macs(plain, video)

    assert torch.equal(outputs, expected)
    assert macs == known
    assert macs.reference < macs.executed < macs.dense


@pytest.mark.parametrize('options', CONVS)
@pytest.mark.parametrize('relative', [True, False])
@pytest.mark.parametrize('order', [1, 2])
@pytest.mark.parametrize('norm', ['output', 'input'])
@pytest.mark.parametrize('backend', ['native', 'reference'])
def test_one_with_a_kernel_decides_at_first_as_the_norm_gate(
    norm, order, relative, options, backend, monkeypatch
):
    monkeypatch.setenv('MMSKIP_BACKEND', backend)
    settings = dict(norm=norm, threshold=0.3, order=order, relative=relative)
    gumbel = converted(dict(type='GumbelNormGate', **settings), **options)
    plain = converted(dict(type='LearnedNormGate', **settings), **options)
    plain.load_state_dict(gumbel.state_dict(), strict=False)
    video = make_video(6, 1, 3, 12, 16)

    outputs, macs = outputs_and_macs(gumbel, video)
    expected, known = outputs_and_macs(plain, video)

    assert torch.equal(outputs, expected)
    assert macs.executed == known.executed < macs.dense
    # One filter for each output, in the 5 frames behind the first.
    outputs_of_first, taps = (192, 3) if len(options) == 1 else (48, 27)
    assert macs.overhead == 5 * outputs_of_first * (taps + 8)


@pytest.mark.parametrize('options', CONVS)
@pytest.mark.parametrize('order', [1, 2])
def test_a_learned_kernel_runs_in_plans_and_in_all_precisions(order, options):
    gate = dict(
        type='GumbelNormGate', threshold=0.3, order=order, relative=True
    )
    model = converted(gate, **options)
    for layer in model:
        torch.nn.init.normal_(layer.gate.log_kernel)
    video = make_video(6, 1, 3, 12, 16)
    expected, known = outputs_and_macs(model, video)
    assert known.executed < known.dense

    for precision in ('float32', 'bfloat16'):
        fast = copy.deepcopy(model)
        mmskip.accelerate(fast, precision=precision)
        outputs, macs = outputs_and_macs(fast, video)
        exact = precision == 'float32'
        near = dict(rtol=1e-4, atol=1e-4) if exact else dict(rtol=0, atol=0.3)
        torch.testing.assert_close(outputs, expected, **near)
        if exact:
            assert macs == known


def test_a_channel_without_weight_is_not_looked_at():
    gate = dict(type='GumbelNormGate', threshold=0.3)
    model = converted(gate, kernel_size=1)[:1]
    frame = torch.randn(1, 3, 6, 6)
    other = frame.clone()
    other[:, 1] += 10
    _, macs = outputs_and_macs(model, [frame, other])
    assert macs.executed == macs.dense
    model[0].gate.log_kernel.data[:, 1] = -100.0
    _, macs = outputs_and_macs(model, [frame, other])
    assert macs.executed == macs.reference


@pytest.mark.parametrize('order', [1, 2])
def test_the_kernel_and_the_threshold_learn(order):
    gate = dict(type='GumbelNormGate', threshold=0.1, order=order)
    model = converted(gate, kernel_size=3, padding=1).train()
    frames = torch.randn(3, 3, 6, 6)
    with mmskip.clip(model, 3) as binding:
        model(frames * 0.1)
    sum(c.expected for c in binding.costs).backward()

    for layer in model:
        factor, kernel = layer.gate.log_factor, layer.gate.log_kernel
        assert factor.grad < 0
        # A kernel e times as large is a threshold e^(1 / order) times lower.
        torch.testing.assert_close(kernel.grad.sum() * order, -factor.grad)


def test_what_a_kernel_learned_is_noticed_and_kept():
    gate = dict(type='GumbelNormGate', threshold=0.1, order=2)
    model = converted(gate, **CONVS[1])
    gate = model[0].gate
    before = gate.params()
    assert gate.params() is before
    with torch.no_grad():
        gate.log_kernel += math.log(2)
        gate.log_factor += math.log(3)
    assert gate.params().bias.item() == pytest.approx(-0.09)
    torch.testing.assert_close(gate.params().weight, before.weight * 2)
    gate.log_kernel.data.zero_()  # past torch's version counters
    gate.refresh()
    assert torch.equal(gate.params().weight, before.weight)

    fresh = converted(
        dict(type='GumbelNormGate', threshold=0.1, order=2), **CONVS[1]
    )
    fresh.load_state_dict(model.state_dict())
    assert fresh[0].gate.params().bias.item() == pytest.approx(-0.09)
    assert gate.plain() is gate
    assert gate.threshold == pytest.approx(0.3)
    assert gate.params().bias.item() == pytest.approx(-0.09)


def test_depthwise_layers_are_too_cheap_for_a_kernel():
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, groups=4))
    gate = dict(type='GumbelNormGate', threshold=0.1)
    with pytest.raises(ValueError, match='depthwise: a learned gate'):
        mmskip.convert(model, mmskip.SkipConversion(gate))


def test_what_it_learned_is_its_threshold():
    model = converted(dict(type='LearnedNormGate', threshold=0.1), **CONVS[0])
    gate = model[0].gate
    before = gate.params()
    assert gate.params() is before

    with torch.no_grad():
        gate.log_factor += math.log(3)
    assert gate.params().threshold == pytest.approx(0.3)
    gate.log_factor.data.fill_(0.0)  # past torch's version counters
    gate.refresh()
    assert gate.params().threshold == 0.1
    assert gate.plain().params() == gate.params()


def test_it_survives_a_copy_and_a_checkpoint():
    model = converted(dict(type='LearnedNormGate', threshold=0.1), **CONVS[0])
    with torch.no_grad():
        model[0].gate.log_factor += 1
    other = copy.deepcopy(model)
    assert other[0].gate.params().threshold == pytest.approx(0.1 * math.e)
    fresh = converted(dict(type='LearnedNormGate', threshold=0.1), **CONVS[0])
    fresh.load_state_dict(model.state_dict())
    assert fresh[0].gate.params().threshold == pytest.approx(0.1 * math.e)


@pytest.mark.parametrize('order', [1, 2])
def test_the_score_is_the_logarithm_of_statistic_over_threshold(order):
    model = converted(
        dict(
            type='LearnedNormGate', threshold=0.5, order=order, sharpness=2.0
        ),
        kernel_size=1,
    )
    layer = model[0]
    residual = torch.full((1, 3, 4, 4), 0.25)
    scale = torch.tensor(4.0)

    place = GatePlace(scale, layer.geometry(residual), (1, 1))
    probability = layer.gate.draw(residual, residual, place).probability

    # 4 * 0.25 is twice the threshold.
    score = torch.tensor(2 * math.log(2.0))
    torch.testing.assert_close(
        probability, score.sigmoid().expand(1, 1, 4, 4), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize('order', [1, 2])
def test_gradients_are_finite_where_nothing_changes(order):
    gate = dict(type='LearnedNormGate', threshold=0.1, order=order)
    model = converted(gate, kernel_size=3, padding=1).train()
    frame = torch.randn(1, 3, 6, 6).expand(3, -1, -1, -1)

    with mmskip.clip(model, 3) as binding:
        output = model(frame)
    cost = sum(c.dense * c.expected for c in binding.costs)
    (output.square().sum() + cost).backward()

    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_higher_threshold_costs_less():
    gate = dict(type='LearnedNormGate', threshold=0.1)
    model = converted(gate, kernel_size=3, padding=1).train()
    with mmskip.clip(model, 3) as binding:
        model(torch.randn(3, 3, 6, 6) * 0.1)
    sum(c.expected for c in binding.costs).backward()

    for layer in model:
        assert layer.gate.log_factor.grad < 0


@pytest.mark.parametrize('rule', ['accumulated', 'previous'])
def test_a_frozen_one_decides_in_training_as_in_a_stream(rule):
    torch.manual_seed(0)
    gate = LearnedNormGate(0.2)
    layer = mmskip.SkipConv2d(3, 4, 3, padding=1, gate=gate, memory=rule)
    gate.log_factor.requires_grad_(False)
    layer.train()
    video = make_video(5, 1, 3, 9, 9)

    with torch.no_grad():
        memory, expected = None, []
        for frame in video:
            output, _, memory = skip_conv(frame, memory, layer.params(frame))
            expected.append(output)
    output, _, _ = layer.skip_clip(torch.stack(video, 1))

    torch.testing.assert_close(output, torch.stack(expected, 1))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(threshold=0.0), 'threshold > 0'),
        (dict(threshold=0.1, sharpness=0.0), 'sharpness > 0'),
        (dict(threshold=0.1, temperature=0.0), 'temperature > 0'),
        (dict(threshold=0.1, norm='both'), "'input' or 'output'"),
    ],
)
@pytest.mark.parametrize('kind', [LearnedNormGate, GumbelNormGate])
def test_wrong_options_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)
