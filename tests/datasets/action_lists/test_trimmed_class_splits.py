"""Lists of HMDB51 and JHMDB from a file of each class and split."""

import pytest

from mmskip.datasets.action_lists import (
    read_class_splits,
    write_hmdb51_lists,
    write_jhmdb_lists,
)


@pytest.fixture
def splits(tmp_path):
    folder = tmp_path / 'splits'
    folder.mkdir()
    for name in ('wave', 'cartwheel'):
        for split in (1, 2, 3):
            marks = ('1', '2', '0') if split == 1 else ('0', '1', '2')
            lines = [
                f'{video}.avi {mark} \n'
                for video, mark in zip(('a.b', '#1', 'c'), marks, strict=True)
            ]
            path = folder / f'{name}_test_split{split}.txt'
            path.write_text(''.join(lines) + '\n')
    return folder


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_labels_are_alphabetical_and_0_is_neither(splits):
    read = read_class_splits(splits, 1)
    assert read.classes == ['cartwheel', 'wave']
    assert read.train == [('cartwheel/a.b', (0,)), ('wave/a.b', (1,))]
    assert read.test == [('cartwheel/#1', (0,)), ('wave/#1', (1,))]
    assert read.unused == 2
    assert read_class_splits(splits, 3).test[1].name == 'wave/c'


def test_names_of_files_may_have_another_underscore(splits):
    for path in list(splits.iterdir()):
        name = path.name.replace('_split', '_split_')
        path.rename(path.with_name(name))
    assert len(read_class_splits(splits, 2).train) == 2


def test_videos_of_one_name_in_two_classes_are_two(splits, tmp_path):
    media = touch(
        tmp_path / 'v',
        *(
            f'{c}/{n}.avi'
            for c in ('wave', 'cartwheel')
            for n in ('a.b', '#1')
        ),
    )
    reports = write_hmdb51_lists(splits, media, tmp_path / 'out', 1)
    assert [report.missing for report in reports] == [(), ()]
    lists = {p.name: p.read_text() for p in (tmp_path / 'out').iterdir()}
    assert lists == {
        'classes.txt': 'cartwheel\nwave\n',
        'train_split_1_list_videos.txt': 'cartwheel/a.b.avi 0\n'
        'wave/a.b.avi 1\n',
        'test_split_1_list_videos.txt': 'cartwheel/#1.avi 0\nwave/#1.avi 1\n',
    }


def test_frames_are_listed_with_their_number(splits, tmp_path):
    media = touch(
        tmp_path / 'f',
        'wave/a.b/00001.png',
        'wave/a.b/00002.png',
        'wave/#1/00001.png',
    )
    with pytest.warns(UserWarning, match='expected 928 videos as published'):
        train, test = write_jhmdb_lists(
            splits, media, tmp_path / 'out', 1, rawframes=True
        )
    assert train.path.read_text() == 'wave/a.b 2 1\n'
    assert (train.written, train.missing) == (1, ('cartwheel/a.b',))
    assert test.path.name == 'test_split_1_list_rawframes.txt'


def test_published_sizes_are_checked_if_asked(splits, tmp_path):
    media = touch(tmp_path / 'v', 'wave/a.b.avi', 'wave/#1.avi')
    with pytest.warns(UserWarning, match='expected 3,570 videos'):
        write_hmdb51_lists(splits, media, tmp_path / 'out', 1, published=True)


@pytest.mark.parametrize('line', ['a.avi 3', 'a.avi', 'a b.avi 1'])
def test_other_lines_are_refused(splits, line):
    path = splits / 'wave_test_split1.txt'
    path.write_text(line)
    with pytest.raises(ValueError, match=f'{path}: line 1: expected'):
        read_class_splits(splits, 1)


def test_splits_that_are_not_there_are_refused(splits, tmp_path):
    with pytest.raises(FileNotFoundError, match='extract the archive'):
        read_class_splits(tmp_path, 1)
    with pytest.raises(ValueError, match=r'expected split 1\.\.3, got 0'):
        read_class_splits(splits, 0)


def test_an_empty_split_file_is_refused(splits):
    """Its class would have a label and no video."""
    path = splits / 'wave_test_split1.txt'
    for text in ('', '\n \n'):
        path.write_text(text)
        with pytest.raises(ValueError, match=f'{path}: .* empty file'):
            read_class_splits(splits, 1)


@pytest.mark.parametrize('mark', ['1', '2', '0'])
def test_a_video_is_listed_once_in_one_subset(splits, mark):
    path = splits / 'wave_test_split1.txt'
    path.write_text(f'a.avi 1\nb.avi 2\na.avi {mark}\n')
    with pytest.raises(ValueError, match=rf"{path}: line 3: .*'a\.avi'.*1"):
        read_class_splits(splits, 1)
