"""Where releases and re-packs keep images and annotations."""

import re
from pathlib import Path

import pytest

from mmskip.datasets.ua_detrac_release import (
    find_sequences,
    list_frames,
    read_image_size,
)
from tests.datasets.releases import write_images

XML = 'DETRAC-Train-Annotations-XML'
IMAGES = 'Insight-MVT_Annotation_Train'
FLAT = 'DETRAC-Images/DETRAC-Images'


def lay_out(root: Path, *paths: str) -> Path:
    """Make files (with an extension) and folders."""
    for path in paths:
        if '.' in path:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        else:
            (root / path).mkdir(parents=True)
    return root


@pytest.mark.parametrize(
    ('images', 'annotation'),
    [
        (IMAGES, f'{XML}/MVI_1.xml'),
        (f'DETRAC-train-data/{IMAGES}', f'{XML}/{XML}/MVI_1.xml'),
        (FLAT, f'{XML}-v3/MVI_1_v3.xml'),
        ('DETRAC-Images', f'{XML}-v3/{XML}-v3/MVI_1_v3.xml'),
    ],
)
def test_every_packing_is_found(tmp_path, images, annotation):
    root = lay_out(tmp_path, f'{images}/MVI_1', annotation)
    assert find_sequences(str(root), 'train') == [
        ('MVI_1', f'{root}/{images}/MVI_1', f'{root}/{annotation}')
    ]


def test_sequences_are_sorted_and_splits_kept_apart(tmp_path):
    root = lay_out(
        tmp_path,
        *(f'{FLAT}/MVI_{n}' for n in (3, 1, 2)),
        f'{XML}/MVI_3.xml',
        f'{XML}/MVI_1.xml',
        'DETRAC-Test-Annotations-XML/MVI_2.xml',
    )
    names = {
        split: [found[0] for found in find_sequences(str(root), split)]
        for split in ('train', 'test')
    }
    assert names == dict(train=['MVI_1', 'MVI_3'], test=['MVI_2'])


def test_wanted_sequences_only(tmp_path):
    root = lay_out(
        tmp_path,
        f'{IMAGES}/MVI_1',
        f'{IMAGES}/MVI_2',
        f'{XML}/MVI_1.xml',
    )
    (only,) = find_sequences(str(root), 'train', ['MVI_1'])
    assert only[0] == 'MVI_1'


@pytest.mark.parametrize(
    ('paths', 'missing'),
    [
        ([f'{IMAGES}/MVI_1', f'{XML}/MVI_2.xml'], f'{XML}/MVI_1.xml'),
        ([f'{IMAGES}/MVI_1', f'{XML}/MVI_1.xml'], None),
        (
            [f'{FLAT}/MVI_1', f'{XML}/MVI_1.xml', f'{XML}/MVI_2.xml'],
            f'{FLAT}/MVI_2',
        ),
        ([f'{FLAT}/MVI_1'], 'DETRAC-Train-Annotations-XML'),
        ([f'{FLAT}/MVI_1', f'{XML}/readme.txt'], 'Annotations-XML'),
        ([f'{XML}/MVI_1.xml'], IMAGES),
        ([], 'Insight-MVT_Annotation_Train'),
    ],
)
def test_what_is_missing_is_named(tmp_path, paths, missing):
    root = str(lay_out(tmp_path, *paths))
    if missing is None:
        assert len(find_sequences(root, 'train')) == 1
        return
    with pytest.raises(FileNotFoundError, match=re.escape(missing)):
        find_sequences(root, 'train')


def test_a_wanted_sequence_that_is_missing_is_named(tmp_path):
    root = lay_out(tmp_path, f'{IMAGES}/MVI_1', f'{XML}/MVI_1.xml')
    with pytest.raises(FileNotFoundError, match='MVI_9'):
        find_sequences(str(root), 'train', ['MVI_9'])


def test_two_annotations_of_one_sequence_are_refused(tmp_path):
    root = lay_out(
        tmp_path, f'{IMAGES}/MVI_1', f'{XML}/MVI_1.xml', f'{XML}/MVI_1_v3.xml'
    )
    with pytest.raises(ValueError, match='one annotation of MVI_1'):
        find_sequences(str(root), 'train')


def test_other_folders_can_be_given(tmp_path):
    root = lay_out(tmp_path, 'frames/MVI_1', 'labels/MVI_1.xml')
    (only,) = find_sequences(
        'nowhere', 'test', None, f'{root}/frames', f'{root}/labels'
    )
    assert only == (
        'MVI_1',
        f'{root}/frames/MVI_1',
        f'{root}/labels/MVI_1.xml',
    )


def test_frames_are_in_order_and_other_files_passed_over(tmp_path):
    paths = [f'img{n:05d}.jpg' for n in (2, 10, 1, *range(3, 10))]
    lay_out(tmp_path, *paths, 'Thumbs.db', 'img1.txt')
    assert [Path(p).name for p in list_frames(str(tmp_path))] == sorted(paths)


@pytest.mark.parametrize(
    ('paths', 'error', 'named'),
    [
        ([], FileNotFoundError, 'images img00001.jpg'),
        (['img00002.jpg'], FileNotFoundError, 'img00001.jpg'),
        (['img00001.jpg', 'img00003.jpg'], FileNotFoundError, 'img00002.jpg'),
        (['img00000.jpg', 'img00001.jpg'], ValueError, 'img00000.jpg'),
        (['img00001.jpg', 'img00001.JPG'], ValueError, 'img00001.jpg'),
    ],
)
def test_missing_or_doubtful_frames_are_named(tmp_path, paths, error, named):
    lay_out(tmp_path, *paths)
    with pytest.raises(error, match=re.escape(named)):
        list_frames(str(tmp_path))


def test_the_size_comes_from_the_header(tmp_path):
    write_images(tmp_path / 'a', [1], size=(96, 64))
    assert read_image_size(str(tmp_path / 'a/img00001.jpg')) == (96, 64)


@pytest.mark.parametrize('content', [b'', b'no image at all'])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    path = tmp_path / 'img00001.jpg'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'img00001\.jpg'):
        read_image_size(str(path))
