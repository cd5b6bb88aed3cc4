"""Inference in lock-step equals one frame after the other."""

import torch

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
