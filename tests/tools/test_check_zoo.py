"""Rows of checked models are kept as they come, and told in tables."""

import pytest

from mmskip.apis import ZooRow


@pytest.fixture
def tool(load_tool):
    return load_tool('check_zoo')


def row(model, mode='stream', status='equal', **values):
    return ZooRow(
        'host', model, mode, status, configs=(f'{model}.py',), **values
    )


def test_rows_come_back_and_the_last_one_of_a_model_counts(tool, tmp_path):
    path = tmp_path / 'rows.jsonl'
    rows = [
        row('a', error=1e-6),
        row('b', status='fails', reason='x\ny'),
        row('c', 'coverage', 'converted', share=0.9, dense={'Linear': 0.1}),
    ]
    for item in [row('b', status='differs'), *rows]:
        tool.append_row(path, item)
    with path.open('a') as file:
        file.write('{"host": "host", "model": "d", "mo')  # killed

    assert sorted(tool.read_rows(path), key=lambda r: r.model) == rows


def test_the_table_counts_all_and_lists_what_is_not_equal(tool, tmp_path):
    rows = [
        row('a', error=2e-6),
        row('a', 'plan', 'differs', reason='1.0e-02 at neck'),
        row('b', error=1e-6),
        row('b', 'plan', error=1e-6),
        row('c', status='does not run densely', reason='no a|b'),
        row('c', 'plan', 'does not run densely', reason='no a|b'),
    ]

    text = tool.write_tables(tmp_path, 'host', rows)

    assert text == (tmp_path / 'host.md').read_text()
    assert '3 distinct models of 3 configs.' in text
    assert '| equal | 2 | 1 |' in text
    assert '| does not run densely | 1 | 1 |' in text
    assert '| 1.0e-02 at neck | plan | 1: `a` |' in text
    assert '| no a\\|b | stream, plan | 1: `c` |' in text
    assert len((tmp_path / 'host.csv').read_text().splitlines()) == 7


def test_the_table_lists_what_is_partly_converted_with_its_share(
    tool, tmp_path
):
    rows = [
        row('a', 'coverage', 'converted', share=0.95),
        *(
            row(name, 'coverage', 'partly converted', share=share, reason='x')
            for name, share in (('b', 0.414), ('c', 0.3))
        ),
    ]

    text = tool.write_tables(tmp_path, 'host', rows)

    assert '| converted | 1 |' in text
    assert '| partly converted | 2 |' in text
    assert '| x | coverage | 2: `b` 41.4 %, `c` 30.0 % |' in text
    assert '`a`' not in text
