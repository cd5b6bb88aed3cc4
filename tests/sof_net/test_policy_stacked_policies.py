"""Policies of all stages decide at once."""

import pytest
import torch

from mmskip.sof_net import StackedPolicies, StopOrForwardHead

C, H, PLACES, VIDEOS, FRAMES = 6, 5, 2, 3, 4


def heads(temporal):
    torch.manual_seed(0)
    return [
        StopOrForwardHead(C, hidden_channels=H, temporal=temporal)
        for _ in range(PLACES)
    ]


def project(policies, x):
    """P (N, B, n, P) of features (N, B, n, C, h, w)."""
    return torch.stack(
        [
            policy(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
            for policy, rows in zip(policies, x, strict=True)
        ]
    )


@pytest.mark.parametrize('temporal', [True, False])
@torch.no_grad()
def test_each_decision_is_a_step_from_the_recurrent_state(temporal):
    policies = heads(temporal)
    stacked = StackedPolicies(policies)
    state = stacked.initial_state(VIDEOS)
    states = [policy.initial_state(VIDEOS) for policy in policies]
    x = torch.randn(PLACES, VIDEOS, FRAMES, C, 2, 2)
    decision = None
    # Frames 2 of video 1, then 1 and 0 of videos 0 and 1 are used.
    for used in ({}, {1: 2}, {0: 1, 1: 0}):
        if used:
            stacked.update(state, decision, list(used), list(used.values()))
        for video, frame in used.items():
            row = slice(video, video + 1)
            for place, policy in enumerate(policies):
                step = policy.step(
                    policy.embed(x[place, row, frame]), states[place][row]
                )
                states[place][row] = step.state
        decision = stacked.decide(project(policies, x), state)
        for place, policy in enumerate(policies):
            for frame in range(FRAMES):
                step = policy.step(
                    policy.embed(x[place, :, frame]), states[place]
                )
                where = place, slice(None), frame
                torch.testing.assert_close(decision.margin[where], step.margin)
                torch.testing.assert_close(decision.hidden[where], step.hidden)


@pytest.mark.parametrize('temporal', [True, False])
@torch.no_grad()
def test_joined_layers_decide_the_same_at_the_same_macs(temporal):
    policies = heads(temporal)
    x = torch.randn(PLACES, VIDEOS, FRAMES, C, 2, 2)
    expected = project(policies, x)
    macs = [policy.frame_macs for policy in policies]
    for policy in policies:
        policy.join()
        policy.join()  # once is enough
        assert isinstance(policy.embedding, torch.nn.Identity)
    torch.testing.assert_close(project(policies, x), expected)
    assert [policy.frame_macs for policy in policies] == macs


@torch.no_grad()
def test_one_place_can_decide_alone():
    policies = heads(temporal=True)
    stacked = StackedPolicies(policies)
    state = stacked.initial_state(VIDEOS)
    projected = project(policies, torch.randn(PLACES, VIDEOS, FRAMES, C, 2, 2))
    whole = stacked.decide(projected, state)
    here = slice(1, 2)
    alone = stacked.decide(
        projected[here], type(state)(*(values[here] for values in state)), here
    )
    for found, expected in zip(alone, whole, strict=True):
        torch.testing.assert_close(found, expected[here])
