"""Inner classifiers and what they teach, in closed form."""

import math

import pytest
import torch

from mmskip.sof_net import (
    PolicyGuidanceLoss,
    inner_classification_loss,
    self_supervision_loss,
)

ONE = torch.tensor([[1.0, 0.0]])


def logits_of(*probabilities):
    """Logits (1, 1, N, 2) that give the first class these probabilities."""
    p = torch.tensor(probabilities)
    return torch.stack([p, 1 - p], -1).log()[None, None]


def test_only_forwarded_frames_teach_the_inner_classifiers():
    logits = logits_of(0.5, 0.25, 0.125)
    actions = torch.tensor([[[1.0, 1.0, 0.0]]])
    loss = inner_classification_loss(logits, ONE, actions)
    assert float(loss) == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_several_labels_add_up():
    both = torch.tensor([[1.0, 1.0]])
    loss = inner_classification_loss(
        logits_of(0.25), both, torch.ones(1, 1, 1)
    )
    assert float(loss) == pytest.approx(math.log(4) + math.log(4 / 3))


def test_without_any_forwarded_frame_there_is_no_loss():
    logits = logits_of(0.5, 0.5).requires_grad_()
    loss = inner_classification_loss(logits, ONE, torch.zeros(1, 1, 2))
    loss.backward()
    assert float(loss) == 0
    assert not logits.grad.any()


def test_actions_get_no_gradient_from_the_inner_classifiers():
    actions = torch.ones(1, 1, 2, requires_grad=True)
    logits = logits_of(0.5, 0.5).requires_grad_()
    inner_classification_loss(logits, ONE, actions).backward()
    assert actions.grad is None
    assert logits.grad.any()


def test_a_frame_should_go_on_where_the_next_classifier_knows_better():
    logits = logits_of(0.2, 0.6, 0.6, 0.5)  # go on, stop (equal), stop
    margins = torch.tensor([[[1.0, 2.0, 3.0, 100.0]]], requires_grad=True)
    loss = self_supervision_loss(margins, logits, ONE)
    wrong = [math.log1p(math.exp(m)) for m in (-1, 2, 3)]
    assert float(loss) == pytest.approx(sum(wrong) / 3)
    loss.backward()
    assert (margins.grad.sign().flatten() == torch.tensor([-1, 1, 1, 0])).all()


def test_any_of_several_labels_counts():
    p = torch.tensor([[0.3, 0.3, 0.4], [0.1, 0.6, 0.3]]).log()[None, None]
    labels = torch.tensor([[1.0, 1.0, 0.0]])
    margins = torch.tensor([[[-1.0, 0.0]]])
    loss = self_supervision_loss(margins, p, labels)
    assert float(loss) == pytest.approx(math.log1p(math.e))


def test_pseudo_labels_are_no_way_back_to_the_classifiers():
    logits = logits_of(0.2, 0.6).requires_grad_()
    margins = torch.zeros(1, 1, 2, requires_grad=True)
    self_supervision_loss(margins, logits, ONE).backward()
    assert logits.grad is None


def test_beta_weighs_the_two():
    logits, actions = logits_of(0.5, 0.25), torch.ones(1, 1, 2)
    margins = torch.zeros(1, 1, 2)
    found = PolicyGuidanceLoss(0.75)(margins, logits, ONE, actions)
    assert set(found) == {'loss_inner', 'loss_self'}
    assert float(found['loss_inner']) == pytest.approx(
        0.75 * 1.5 * math.log(2)
    )
    assert float(found['loss_self']) == pytest.approx(0.25 * math.log(2))


@pytest.mark.parametrize('beta', [-0.1, 1.1])
def test_beta_is_a_share(beta):
    with pytest.raises(ValueError, match=r'beta in \[0, 1\]'):
        PolicyGuidanceLoss(beta)
