"""SoF-Net as a model of mmaction2."""

import copy

import pytest
import torch

import mmskip
from tests.sof_net.nets import (
    CLASSES,
    GUIDANCE,
    POLICY,
    SIZE,
    build,
    build_sof,
    data,
    samples,
    tsn_config,
    videos,
)

PLACES = 5


@torch.no_grad()
def predict(model, inputs, labels=None):
    return model.test_step(data(inputs, labels))


def losses(model, inputs, labels):
    model.train()
    inputs = model.data_preprocessor(data(inputs))['inputs']
    return model(inputs, samples(labels), mode='loss')


def total(found):
    return sum(value for name, value in found.items() if 'loss' in name)


def stops_of(results):
    return [r.sof_stops.tolist() for r in results]


def test_without_policies_it_is_tsn():
    tsn, sof = build(tsn_config()), build_sof(policy=None)
    sof.load_state_dict(tsn.state_dict(), strict=True)
    x = videos(2, 4)
    for ours, theirs in zip(predict(sof, x), predict(tsn, x), strict=True):
        torch.testing.assert_close(ours.pred_score, theirs.pred_score)
        assert ours.pred_label == theirs.pred_label
        assert ours.sof_stops.tolist() == [PLACES] * 4
        assert ours.sof_exit == 4


def test_a_checkpoint_of_tsn_fits_but_for_the_policies():
    missing, unexpected = build_sof().load_state_dict(
        build(tsn_config()).state_dict(), strict=False
    )
    assert unexpected == []
    assert missing
    assert all(name.startswith('policies.') for name in missing)


def test_frames_stop_at_every_place_in_the_other_tests():
    results = predict(build_sof(), videos(8, 8))
    seen = {stop for stops in stops_of(results) for stop in stops}
    assert seen == {0, 1, 2, 3, 4, PLACES}


@pytest.mark.parametrize('early_exit', [None, dict(rho=0.3, t_min=2)])
@pytest.mark.parametrize('size', [1, 3, 8])
def test_results_do_not_depend_on_the_batch_size(size, early_exit):
    model, x = build_sof(early_exit=early_exit), videos(8, 6)
    together = predict(model, x)
    apart = [
        result
        for start in range(0, 8, size)
        for result in predict(model, x[start : start + size])
    ]
    assert stops_of(together) == stops_of(apart)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one.pred_score, other.pred_score)
        assert one.sof_macs == other.sof_macs
        assert one.sof_exit == other.sof_exit


def test_inference_draws_nothing():
    model, x = build_sof(), videos(2, 4)
    before = torch.random.get_rng_state()
    first, second = predict(model, x), predict(model, x)
    assert torch.equal(before, torch.random.get_rng_state())
    assert stops_of(first) == stops_of(second)


@pytest.mark.parametrize('early_exit', [None, dict(rho=0.25, t_min=1)])
@pytest.mark.parametrize('policy', [None, POLICY])
def test_the_ledger_is_exact(policy, early_exit):
    model = build_sof(policy=policy, early_exit=early_exit)
    tsn, x = build(tsn_config()), videos(3, 6)
    with mmskip.count_macs(tsn) as dense:
        predict(tsn, x)
    with mmskip.count_macs(model) as macs:
        results = predict(model, x)
    assert macs.uncounted() == {}
    assert macs.frames == dense.frames == 18
    count = macs.total()
    assert count.dense == dense.total().dense
    assert count.spent == sum(r.sof_macs for r in results)
    for name, layer in dense.by_module().items():
        assert macs.by_module()[name].dense == layer.dense, name
    if policy is not None:
        assert count.executed < count.dense


@pytest.mark.parametrize(
    ('lookahead', 'early_exit'),
    [
        (2, None),
        (5, dict(rho=0.3, t_min=2)),
        (8, None),
        (20, dict(rho=0.3, t_min=2)),
    ],
)
def test_looking_ahead_changes_nothing_but_the_cost(lookahead, early_exit):
    x = videos(8, 8)
    options = dict(early_exit=early_exit)
    ahead = predict(build_sof(lookahead=lookahead, **options), x)
    step_by_step = predict(build_sof(lookahead=1, **options), x)
    assert stops_of(ahead) == stops_of(step_by_step)
    for one, other in zip(ahead, step_by_step, strict=True):
        torch.testing.assert_close(one.pred_score, other.pred_score)
        assert one.sof_macs >= other.sof_macs
    assert sum(r.sof_macs for r in ahead) > sum(
        r.sof_macs for r in step_by_step
    )


def test_lookahead_is_a_number_of_frames():
    with pytest.raises(ValueError, match='lookahead >= 1'):
        build_sof(lookahead=0)


def test_what_frames_cost_is_a_sum_over_the_places_they_reached():
    model = build_sof(lookahead=1)
    costs = model.measure((3, SIZE, SIZE))
    deciding = [policy.frame_macs for policy in model.policies]
    for result in predict(model, videos(8, 8)):
        stops = result.sof_stops.tolist()
        if stops.count(PLACES) == 1:
            continue  # perhaps one that was forwarded after all
        expected = sum(costs.head.values()) * stops.count(PLACES)
        for stop in stops:
            reached = min(stop + 1, PLACES)
            expected += sum(costs.by_stage[:reached])
            expected += sum(deciding[:reached])
        assert result.sof_macs == expected


def test_stopped_frames_are_not_computed():
    model, seen = build_sof(lookahead=1), [0] * 4
    for index in range(4):

        def note(module, inputs, output, index=index):
            seen[index] += len(inputs[0])

        layer = getattr(model.backbone, f'layer{index + 1}')
        layer.register_forward_hook(note)
    found = stops_of(predict(model, videos(4, 8)))
    stops = [stop for video in found for stop in video]
    for index, frames in enumerate(seen):
        assert frames == sum(stop > index for stop in stops)


def test_a_video_whose_frames_all_stop_uses_the_one_that_got_furthest():
    model = build_sof()
    for place, policy in enumerate(model.policies):
        policy.gate.bias.data[1] = -1e4 if place == 2 else 1e4
    x = videos(2, 3)
    (result, _) = predict(model, x)
    assert result.sof_stops.tolist() == [PLACES, 2, 2]
    tsn = build_sof(policy=None)
    tsn.load_state_dict(model.state_dict(), strict=False)
    alone = predict(tsn, x[:, :1])[0]
    torch.testing.assert_close(result.pred_score, alone.pred_score)


def test_early_exit_saves_the_frames_behind_it():
    model = build_sof(policy=None, early_exit=dict(rho=0.01, t_min=2))
    for result in predict(model, videos(2, 6)):
        assert result.sof_exit == 3
        assert result.sof_stops.tolist() == [5, 5, 5, -1, -1, -1]


def test_warming_up_forwards_everything():
    model, x = build_sof(), videos(2, 4)
    model.warming_up = True
    assert stops_of(predict(model, x)) == [[PLACES] * 4] * 2
    found = losses(model, x, [0, 1])
    total(found).backward()
    assert set(found) == {'loss_cls', 'top1_acc'}
    assert all(p.grad is None for p in model.policies.parameters())


@pytest.mark.parametrize(
    'labels', [[1, 4], [[0, 1, 0, 1, 0], [1, 0, 0, 0, 0]], [[2], [0]]]
)
def test_everything_learns_from_one_or_several_labels(labels):
    model = build_sof()
    found = losses(model, videos(2, 4), labels)
    total(found).backward()
    assert {
        'loss_cls',
        'loss_efficiency',
        'loss_inner',
        'loss_self',
        'used_frames',
    } <= set(found)
    assert all(value.isfinite() for value in found.values())
    assert all(p.grad is not None for p in model.parameters())


def test_with_all_frames_forwarded_the_losses_have_closed_forms():
    model = build_sof(alpha=0.75, efficiency_loss=dict(type='EfficiencyLoss'))
    for policy in model.policies:
        policy.gate.bias.data[1] = 1e6
    plain = build_sof(policy=None)
    plain.load_state_dict(model.state_dict(), strict=False)
    x, labels = videos(2, 4), [1, 3]
    found, expected = losses(model, x, labels), losses(plain, x, labels)
    torch.testing.assert_close(found['loss_cls'], 0.75 * expected['loss_cls'])
    remaining = model.measure((3, SIZE, SIZE)).remaining
    assert float(found['loss_efficiency']) == pytest.approx(
        0.25 * sum(remaining) / PLACES / 1e9
    )
    assert found['used_frames'] == 1


def test_without_guidance_there_are_no_inner_classifiers():
    model = build_sof(guidance_loss=None)
    found = losses(model, videos(2, 4), [0, 1])
    total(found).backward()
    assert not {'loss_inner', 'loss_self'} & set(found)
    assert all(policy.classifier is None for policy in model.policies)
    assert all(p.grad is not None for p in model.parameters())


def test_a_policy_without_memory_decides_frame_by_frame():
    model = build_sof(policy=dict(POLICY, temporal=False))
    x = videos(1, 6)
    there = stops_of(predict(model, x))[0]
    back = stops_of(predict(model, x.flip(1)))[0]
    if there.count(PLACES) > 1:
        assert there == back[::-1]
    assert any(policy.temporal for policy in build_sof().policies)


def test_binary_cross_entropy_gives_sigmoid_scores():
    head = dict(loss_cls=dict(type='BCELossWithLogits'))
    model = build_sof(policy=None, head=head)
    softmax = build_sof(policy=None)
    x = videos(1, 3)
    score = predict(model, x)[0].pred_score
    torch.testing.assert_close(
        score.logit().softmax(-1), predict(softmax, x)[0].pred_score
    )


def test_copies_work():
    model = build_sof()
    x = videos(2, 4)
    expected = stops_of(predict(model, x))
    assert stops_of(predict(copy.deepcopy(model), x)) == expected


@pytest.mark.parametrize(
    'labels', [[CLASSES, 0], [-1, 0], [[1, 0, 0], [0, 1, 0]]]
)
def test_labels_that_do_not_fit_are_told(labels):
    with pytest.raises(ValueError, match=r'num_classes of the cls_head'):
        losses(build_sof(), videos(2, 2), labels)


def test_t_min_has_to_be_below_the_number_of_frames():
    model = build_sof(early_exit=dict(t_min=4))
    with pytest.raises(ValueError, match=r't_min=4 and T=4'):
        predict(model, videos(1, 4))


@pytest.mark.parametrize('alpha', [-0.1, 1.1])
def test_alpha_is_a_share(alpha):
    with pytest.raises(ValueError, match=r'alpha in \[0, 1\]'):
        build_sof(alpha=alpha)


def test_a_backbone_that_mixes_frames_is_refused():
    backbone = dict(type='ResNetTSM', depth=18, num_segments=8)
    cfg = dict(
        tsn_config(),
        type='mmskip.SoFRecognizer',
        backbone=backbone,
        policy=POLICY,
        guidance_loss=GUIDANCE,
    )
    with pytest.raises(ValueError, match='ResNetTSM, which mixes'):
        build(cfg)
