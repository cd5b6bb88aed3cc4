"""Inference in lock-step equals one frame after the other."""

import pytest
import torch

import mmskip
from mmskip.sof_net import list_stages
from mmskip.sof_net.inference import VideoInference
from tests.helpers.pairwise import every_pair
from tests.sof_net.nets import POLICY, build_sof, data, videos

PLACES = 5


def plainly(model, video, rule=None):
    """Eq. 3.1-3.7 for one video (T, C, H, W), without any cleverness."""
    stages = list_stages(model.backbone)
    states = [policy.initial_state(1) for policy in model.policies]
    stops, used = [], []
    for t, frame in enumerate(video):
        x, new, stop = frame[None], [], PLACES
        for place, stage in enumerate(stages):
            x = stage(x)
            policy = model.policies[place]
            step = policy.step(policy.embed(x), states[place])
            new.append(step.state)
            if step.margin < 0:
                stop = place
                break
        stops.append(stop)
        if stop == PLACES:
            states = new
            used.append(model.cls_head(x, num_segs=1)[0])
        if rule is None or t + 1 <= rule.t_min or not used:
            continue
        if torch.stack(used).mean(0).softmax(-1).max() > rule.rho:
            break
    stops += [-1] * (len(video) - len(stops))
    return stops, torch.stack(used).mean(0) if used else None


@every_pair(
    'length,temporal,early_exit',
    [1, 3, 8],
    [True, False],
    [None, dict(rho=0.3, t_min=2)],
)
@torch.no_grad()
def test_it_equals_the_equations(temporal, early_exit, length):
    model = build_sof(
        policy=dict(POLICY, temporal=temporal), early_exit=early_exit
    )
    x = model.data_preprocessor(data(videos(8, 8)))['inputs']
    inference = VideoInference(model.staged_net(x.shape[2:]), len(x))
    for t in range(0, 8, length):
        inference.run(x[:, t : t + length])
    stops = [list(column) for column in zip(*inference.stops, strict=True)]
    logits = inference.logits()
    compared = 0
    for video, found, answer in zip(x, stops, logits, strict=True):
        expected, mean = plainly(model, video, model.early_exit)
        assert found == expected
        if mean is not None:
            torch.testing.assert_close(answer, mean)
            compared += 1
    assert compared > 4
    assert len({stop for column in stops for stop in column}) > 4


@torch.no_grad()
def test_the_state_is_that_of_the_last_frame_no_policy_skipped():
    """A frame that a later policy stops leaves no trace in earlier ones."""
    model = build_sof()
    x = model.data_preprocessor(data(videos(1, 3)))['inputs']
    last = model.policies[-1]
    for policy in model.policies:
        policy.gate.bias[1] = 1e6
    last.gate.bias[1] = -1e6
    inference = VideoInference(model.staged_net(x.shape[2:]), 1)
    inference.run(x[:, :1])
    assert inference.stops == [[PLACES - 1]]
    assert not inference._state.cell.any()
    inference.net.stacked._bias[-1] = 1e6
    inference.run(x[:, 1:2])
    assert all(cell.any() for cell in inference._state.cell)


@torch.no_grad()
def test_rows_tell_what_ran():
    model = build_sof(policy=None)
    x = model.data_preprocessor(data(videos(3, 2)))['inputs']
    inference = VideoInference(model.staged_net(x.shape[2:]), 3)
    inference.run(x[:, :1])
    inference.run(x[:, 1:], [[True], [False], [False]])
    assert inference.runner.take_rows() == [4] * (PLACES + 1)
    assert inference.runner.take_rows() == [0] * (PLACES + 1)
    assert inference.stops == [[5, 5, 5], [5, -1, -1]]


@torch.no_grad()
def test_several_videos_are_rescued_from_several_places():
    model = build_sof()
    for policy in model.policies:
        policy.gate.bias[1] = 1e6
    model.policies[-1].gate.bias[1] = -1e6
    x = model.data_preprocessor(data(videos(3, 1)))['inputs']
    inference = VideoInference(model.staged_net(x.shape[2:]), 3)
    inference.run(x[:, :1])
    tsn = build_sof(policy=None)
    tsn.load_state_dict(model.state_dict(), strict=False)
    expected = tsn.cls_head(tsn.backbone(x[:, 0]), num_segs=1)
    for video, place in enumerate((4, 0, 2)):
        feature = x[video, :1]
        for stage in list_stages(model.backbone)[: place + 1]:
            feature = stage(feature)
        inference._furthest[video] = inference._furthest[video]._replace(
            place=place, depth=place + 1, feature=feature[0]
        )
    torch.testing.assert_close(inference.logits(), expected)


STOPS = [
    [5, 0, 2, 5, 4, 3, -1, -1],
    [1, 1, 0, 2, 1, 0, 2, 1],
    [5, 5, 5, 5, 5, 5, 5, 5],
    [0, 5, -1, -1, -1, -1, -1, -1],
]


def replay(model, stops, batch):
    with model.force_decisions(stops):
        return model.test_step(data(batch))


@every_pair('lookahead,temporal', [1, 3, 8], [True, False])
@torch.no_grad()
def test_forced_decisions_are_replayed(temporal, lookahead):
    model = build_sof(
        policy=dict(POLICY, temporal=temporal), lookahead=lookahead
    )
    batch = videos(4, 8)
    found = replay(model, STOPS, batch)
    for stops, video, sample in zip(STOPS, batch, found, strict=True):
        expected = list(stops)
        if PLACES not in stops:  # the one that got furthest is rescued
            expected[stops.index(max(stops))] = PLACES
        assert sample.sof_stops.tolist() == expected
        assert sample.sof_exit == sum(s >= 0 for s in stops)
        (alone,) = replay(model, [stops], video[None])
        assert alone.sof_stops.tolist() == expected
        assert alone.sof_macs == sample.sof_macs
        torch.testing.assert_close(alone.pred_score, sample.pred_score)
        x = model.data_preprocessor(data(video[None]))['inputs'][0]
        used = [x[t] for t, s in enumerate(expected) if s == PLACES]
        logits = model.cls_head(model.backbone(torch.stack(used)), num_segs=1)
        torch.testing.assert_close(
            sample.pred_score, logits.mean(0).softmax(-1)
        )


@torch.no_grad()
def test_replaying_a_prediction_gives_it_again():
    model = build_sof(early_exit=dict(rho=0.3, t_min=2))
    batch = videos(6, 8)
    first = model.test_step(data(batch))
    stops = [sample.sof_stops for sample in first]
    scores = [sample.pred_score for sample in first]
    again = replay(model, stops, batch)
    for score, stop, sample in zip(scores, stops, again, strict=True):
        assert torch.equal(sample.sof_stops, stop)
        torch.testing.assert_close(sample.pred_score, score)
    assert len({sample.sof_exit for sample in again}) > 1


@torch.no_grad()
def test_forced_work_is_what_the_places_cost():
    model = build_sof(lookahead=1)
    shape = videos(1, 1).shape[2:]
    costs = model.measure(shape)
    (sample,) = replay(model, [[5, 0, 2, 4]], videos(1, 4))
    rows = (4, 3, 3, 2, 2)
    spent = sum(costs.head.values())
    for stage, policy, n in zip(
        costs.by_stage, model.policies, rows, strict=True
    ):
        spent += n * (stage + policy.frame_macs)
    assert sample.sof_macs == spent


@pytest.mark.parametrize(
    ('stops', 'text'),
    [
        ([[6]], 'places from 0 to 5'),
        ([[-2]], 'places from 0 to 5'),
        ([[-1, 5]], 'at least one'),
        ([[5, -1, 5]], 'not examined'),
    ],
)
def test_impossible_decisions_are_refused(stops, text):
    model = build_sof()
    with pytest.raises(ValueError, match=text), model.force_decisions(stops):
        pass


def test_decisions_of_another_batch_are_refused():
    model = build_sof()
    for stops in ([[5, 5]] * 2, [[5]]):
        with pytest.raises(ValueError, match='batch of'):
            replay(model, stops, videos(1, 2))
    tsn = build_sof(policy=None)
    with pytest.raises(ValueError, match='policies'):
        replay(tsn, [[5, 5]], videos(1, 2))


@torch.no_grad()
def test_an_accelerated_model_decides_the_same():
    model, batch = build_sof().float(), videos(4, 8).float()
    first = model.test_step(data(batch))
    stops = [sample.sof_stops.tolist() for sample in first]
    scores = [sample.pred_score for sample in first]
    mmskip.accelerate(model)
    for score, stop, sample in zip(
        scores, stops, model.test_step(data(batch)), strict=True
    ):
        assert sample.sof_stops.tolist() == stop
        torch.testing.assert_close(
            sample.pred_score, score, rtol=1e-4, atol=1e-4
        )
