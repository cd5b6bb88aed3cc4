"""The files of Kinetics and Mini-Kinetics."""

import pytest

from mmskip.datasets.action_lists import read_kinetics_csv, read_video_list

CSV = """label,youtube_id,time_start,time_end,split,is_cc
riding a bike,--abc_123,7,17,val,0
"abseiling",xyz,120,130,val,0
zumba,q,0,10,val,1
"""


@pytest.fixture
def csv(tmp_path):
    (tmp_path / 'k.csv').write_text(CSV)
    return tmp_path / 'k.csv'


def test_clips_are_named_by_id_and_times(csv):
    classes, entries = read_kinetics_csv(csv)
    assert classes == ['abseiling', 'riding a bike', 'zumba']
    assert entries == [
        ('--abc_123_000007_000017', (1,)),
        ('xyz_000120_000130', (0,)),
        ('q_000000_000010', (2,)),
    ]


def test_a_class_list_chooses_and_numbers(csv):
    classes, entries = read_kinetics_csv(csv, ['zumba', 'riding_a_bike'])
    assert classes == ['zumba', 'riding_a_bike']
    assert [entry.labels for entry in entries] == [(1,), (0,)]


@pytest.mark.parametrize(
    ('content', 'match'),
    [
        ('youtube_id,time_start,time_end\na,1,2\n', 'columns label'),
        ('', 'columns label'),
        (CSV.replace('120', 'soon'), "got 'soon'"),
    ],
)
def test_other_csv_files_are_refused(tmp_path, content, match):
    (tmp_path / 'x.csv').write_text(content)
    with pytest.raises(ValueError, match=match):
        read_kinetics_csv(tmp_path / 'x.csv')


def test_classes_without_videos_are_refused(csv):
    with pytest.raises(ValueError, match="none of 'yoga'"):
        read_kinetics_csv(csv, ['yoga', 'zumba'])


def test_lists_of_both_origins_are_read(tmp_path):
    path = tmp_path / 'l.txt'
    path.write_text('--a_1 300 5\nriding a bike/b.mp4 9 199\n\n')
    assert read_video_list(path) == [('--a_1', (5,)), ('b', (199,))]


@pytest.mark.parametrize('line', ['a 5', 'a 300 200', 'a 3 -1', 'a b c'])
def test_other_lines_are_refused(tmp_path, line):
    (tmp_path / 'l.txt').write_text(f'ok 1 2\n{line}\n')
    with pytest.raises(ValueError, match='line 2'):
        read_video_list(tmp_path / 'l.txt')


def edited(tmp_path, line, text):
    lines = CSV.splitlines()
    lines[line - 1] = text
    (tmp_path / 'x.csv').write_text('\n'.join(lines) + '\n')
    return tmp_path / 'x.csv'


@pytest.mark.parametrize(
    'text',
    [
        '"zumba,abc,0,10,train,0',  # swallows the rows behind it
        'zumba,abc,0',
        'zumba,abc,0,10,train,0,7',
        'zumba,abc,nan,10,train,0',
        'zumba,abc,0,inf,train,0',
        'zumba,abc,-1,10,train,0',
        'zumba,abc,10,10,train,0',
        'zumba,abc,0,1.9,train,0',
        'zumba,abc,0,1000000,train,0',
        'zumba,,0,10,train,0',
        ',abc,0,10,train,0',
    ],
)
def test_rows_that_cannot_be_are_refused_by_their_line(tmp_path, text):
    path = edited(tmp_path, 3, text)
    with pytest.raises(ValueError, match=rf'{path}: line 3: expected'):
        read_kinetics_csv(path)


def test_a_clip_is_listed_once(tmp_path, csv):
    path = edited(tmp_path, 3, CSV.splitlines()[1])
    with pytest.raises(ValueError, match=r'line 3: .* line 2 lists, too'):
        read_kinetics_csv(path)
    path.write_text('a 300 5\nb 2 5\nx/a.mp4 300 5\n')
    with pytest.raises(ValueError, match=r'line 3: .* line 1 lists, too'):
        read_video_list(path)


def test_videos_of_other_classes_are_counted(csv):
    with pytest.warns(UserWarning, match=r'1 of 3 videos are of 1 other'):
        read_kinetics_csv(csv, ['zumba', 'riding_a_bike'])
