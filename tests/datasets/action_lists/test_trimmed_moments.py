"""The files of Moments in Time."""

import pytest

from mmskip.datasets.action_lists import read_moments_classes, read_moments_csv


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / 'file').write_text(text)
        return tmp_path / 'file'

    return write


def test_classes_are_ordered_by_their_indices(write):
    path = write('clapping,1\n\nadult+male+singing,0\n')
    assert read_moments_classes(path) == ['adult+male+singing', 'clapping']


@pytest.mark.parametrize(
    'line', ['clapping', 'clapping,x', ',1', 'b,0', 'a,1']
)
def test_other_lines_are_refused(write, line):
    with pytest.raises(ValueError, match='line 2'):
        read_moments_classes(write(f'a,0\n{line}\n'))


@pytest.mark.parametrize(
    ('text', 'message'),
    [('', 'empty file'), ('a,1\nb,2\n', 'indices from 0')],
)
def test_classes_without_a_first_are_refused(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_moments_classes(write(text))


def test_the_folder_is_the_label_and_part_of_the_name(write):
    path = write('b/x_1.mp4,b,3,0\na/x_1.mp4,a,2,1\n\n')
    assert read_moments_csv(path, ['a', 'b']) == [
        ('b/x_1', (1,)),
        ('a/x_1', (0,)),
    ]


@pytest.mark.parametrize('row', ['c/x.mp4,c,3', 'x.mp4,a,3'])
def test_videos_of_no_class_are_refused(write, row):
    with pytest.raises(ValueError, match=r'line 2: .* of 2 classes'):
        read_moments_csv(write(f'a/x.mp4,a,3\n{row}\n'), ['a', 'b'])
