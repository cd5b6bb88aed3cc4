import pytest

from mmskip.visualization.table import check_rows, method_label
from tests.visualization.rows import make_rows


def test_a_missing_key_is_named():
    row = make_rows()[1]
    del row['AP50'], row['backend']
    with pytest.raises(
        ValueError, match=r"row 1 \('output_norm'\) lacks AP50"
    ):
        check_rows([make_rows()[0], row])


def test_unknown_methods_have_a_label_too():
    assert method_label('my_method') == 'my method'
    assert method_label('dense') == 'Dense'
