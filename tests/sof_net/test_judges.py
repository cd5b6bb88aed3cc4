"""Judges are the policies, all at once."""

import pytest
import torch

from mmskip.sof_net import Judges, StopOrForwardHead

C, H, PLACES, VIDEOS, FRAMES = 6, 5, 2, 3, 4


def heads(temporal):
    torch.manual_seed(0)
    return [
        StopOrForwardHead(C, hidden_channels=H, temporal=temporal)
        for _ in range(PLACES)
    ]


def prepare(policies, x):
    """P (N, B, n, P) of features (N, B, n, C, h, w)."""
    return torch.stack(
        [
            policy(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
            for policy, rows in zip(policies, x, strict=True)
        ]
    )


@pytest.mark.parametrize('temporal', [True, False])
@torch.no_grad()
def test_each_verdict_is_a_step_from_what_is_remembered(temporal):
    policies = heads(temporal)
    judges = Judges(policies)
    known = judges.begin(VIDEOS)
    states = [policy.initial_state(VIDEOS) for policy in policies]
    x = torch.randn(PLACES, VIDEOS, FRAMES, C, 2, 2)
    verdict = None
    for used in (None, 2, 0):  # then frame 2 of video 1 is used, then 0
        if verdict is not None:
            judges.remember(known, 1, verdict, used)
            for place, policy in enumerate(policies):
                step = policy.step(
                    policy.embed(x[place, 1:2, used]), states[place][1:2]
                )
                states[place][1:2] = step.state
        verdict = judges.judge(prepare(policies, x), known)
        for place, policy in enumerate(policies):
            for frame in range(FRAMES):
                step = policy.step(
                    policy.embed(x[place, :, frame]), states[place]
                )
                where = place, slice(None), frame
                torch.testing.assert_close(verdict.margin[where], step.margin)
                torch.testing.assert_close(verdict.hidden[where], step.hidden)


@torch.no_grad()
def test_one_place_can_be_asked_alone():
    policies = heads(temporal=True)
    judges = Judges(policies)
    known = judges.begin(VIDEOS)
    prepared = prepare(policies, torch.randn(PLACES, VIDEOS, FRAMES, C, 2, 2))
    whole = judges.judge(prepared, known)
    here = slice(1, 2)
    alone = judges.judge(
        prepared[here], type(known)(*(part[here] for part in known)), here
    )
    for part, expected in zip(alone, whole, strict=True):
        torch.testing.assert_close(part, expected[here])
