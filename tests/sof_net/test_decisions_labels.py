"""Labels of one and of several classes."""

import pytest
import torch

from mmskip.sof_net.decisions import label_matrix
from tests.sof_net.nets import samples


def test_an_index_is_a_row_with_a_one():
    found = label_matrix(samples([2, 0]), 3)
    assert found.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert found.dtype == torch.float32


def test_several_labels_stay_a_row():
    rows = [[1, 0, 1], [0, 1, 0]]
    assert label_matrix(samples(rows), 3).tolist() == rows


@pytest.mark.parametrize('label', [3, -1, [1, 0], [0, 1, 0, 0]])
def test_a_label_that_does_not_fit_is_told(label):
    with pytest.raises(ValueError, match='num_classes of the cls_head'):
        label_matrix(samples([label]), 3)
