"""Decisions of training, and what becomes of them."""

import torch

from mmskip.sof_net import StopOrForwardHead
from mmskip.sof_net.decisions import aggregate, decide, used_frames


def policies(places=3, **options):
    return [
        StopOrForwardHead(4, hidden_channels=6, forward_bias=0.5, **options)
        for _ in range(places)
    ]


def sure(policy, forward):
    """Let a policy always do the same."""
    policy.gate.bias.data[1] = 1e6 if forward else -1e6
    return policy


def embedded(policies, videos=5, frames=7):
    x = torch.randn(len(policies), videos, frames, 4)
    return [
        policy.embed(part.flatten(0, 1)).unflatten(0, (videos, frames))
        for policy, part in zip(policies, x, strict=True)
    ]


def test_a_stopped_frame_reaches_no_further_policy():
    heads = policies()
    actions = decide(heads, embedded(heads)).actions
    assert set(actions.unique().tolist()) == {0.0, 1.0}
    assert (actions[..., 1:] <= actions[..., :-1]).all()


def test_margins_are_those_of_the_last_frame_that_none_skipped():
    heads = [sure(policies(1)[0], True), sure(policies(1)[0], False)]
    x = embedded(heads)
    found = decide(heads, x)
    assert found.actions[..., 0].all()
    assert not found.actions[..., 1].any()
    for place, head in enumerate(heads):
        for t in range(7):
            fresh = head.step(x[place][:, t], head.initial_state(5))
            torch.testing.assert_close(
                found.margins[:, t, place], fresh.margin
            )


def test_forwarded_frames_are_remembered_in_order():
    heads = [sure(head, True) for head in policies(2)]
    x = embedded(heads)
    found = decide(heads, x)
    for place, head in enumerate(heads):
        state = head.initial_state(5)
        for t in range(7):
            step = head.step(x[place][:, t], state)
            state = step.state
            torch.testing.assert_close(found.margins[:, t, place], step.margin)


def test_inner_logits_are_of_the_hidden_state():
    heads = [sure(head, False) for head in policies(2, num_classes=3)]
    x = embedded(heads)
    found = decide(heads, x).inner_logits
    assert found.shape == (5, 7, 2, 3)
    step = heads[1].step(x[1][:, 4], heads[1].initial_state(5))
    torch.testing.assert_close(
        found[:, 4, 1], heads[1].classifier(step.hidden)
    )
    assert decide(policies(2), embedded(policies(2))).inner_logits is None


def test_the_mean_is_over_used_frames():
    logits = torch.tensor([[[1.0, 3.0], [5.0, 5.0], [3.0, 1.0]]])
    used = torch.tensor([[1.0, 0.0, 1.0]])
    assert aggregate(logits, used).tolist() == [[2.0, 2.0]]


def test_used_frames_passed_all_policies():
    actions = torch.tensor([[[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]])
    assert used_frames(actions).tolist() == [[1.0, 0.0, 0.0]]


def test_of_a_video_without_any_the_first_of_the_furthest_is_used():
    lost = [[0.0, 0, 0], [1, 1, 0], [1, 0, 0], [1, 1, 0]]
    kept = [[1.0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1]]
    found = used_frames(torch.tensor([lost, kept]))
    assert found.tolist() == [[0, 1, 0, 0], [1, 0, 0, 1]]


def test_a_video_without_any_still_teaches_its_policies():
    actions = torch.zeros(1, 2, 1, requires_grad=True)
    logits = torch.tensor([[[0.0, 0.0], [4.0, 0.0]]])
    aggregate(logits, used_frames(actions))[0, 0].backward()
    assert actions.grad.flatten().tolist() == [0.0, 4.0]
