"""The toy UA-DETRAC on disk."""

import hashlib
import re
import xml.etree.ElementTree as ET

import cv2
import pytest

import mmskip
from mmskip.toy import Sequences, make_toy_ua_detrac
from mmskip.toy.ua_detrac import MARKER


def digests(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(small, tmp_path):
    few = dict(small, train=Sequences(1, 4), test=Sequences(1, 4))
    one, other = (
        make_toy_ua_detrac(tmp_path / name, **few) for name in ('a', 'b')
    )
    assert digests(one) == digests(other)


def test_another_seed_gives_other_images(toy, small, tmp_path):
    options = dict(
        small, train=Sequences(1, 12), test=Sequences(0, 12), seed=1
    )
    other = make_toy_ua_detrac(tmp_path / 'other', **options)
    path = 'Insight-MVT_Annotation_Train/MVI_90001/img00001.jpg'
    assert (other / path).read_bytes() != (toy / path).read_bytes()


def test_it_lies_on_disk_like_the_original(toy, small):
    for split in ('Train', 'Test'):
        number = small[split.lower()].number
        folders = sorted((toy / f'Insight-MVT_Annotation_{split}').iterdir())
        assert len(folders) == number
        for folder in folders:
            assert re.fullmatch(r'MVI_\d{5}', folder.name)
            assert sorted(p.name for p in folder.iterdir()) == [
                f'img{n:05d}.jpg' for n in range(1, 13)
            ]
            image = folder / 'img00001.jpg'
            assert image.read_bytes()[:2] == b'\xff\xd8'
            assert cv2.imread(str(image)).shape == (96, 160, 3)
            annotation = toy / f'DETRAC-{split}-Annotations-XML'
            root = ET.parse(annotation / f'{folder.name}.xml').getroot()
            assert root.get('name') == folder.name


def test_frames_without_vehicles_have_no_element(tmp_path):
    root = make_toy_ua_detrac(
        tmp_path / 'toy',
        train=Sequences(0, 24),
        test=Sequences(4, 24),
        size=(96, 64),
    )
    path = root / 'DETRAC-Test-Annotations-XML/MVI_95004.xml'
    frames = ET.parse(path).getroot().findall('frame')
    numbers = [int(frame.get('num')) for frame in frames]
    assert 0 < len(numbers) < 24
    assert 1 not in numbers
    for frame in frames:
        assert int(frame.get('density')) == len(frame.findall('.//target'))


def test_the_dataset_reads_it(toy, small, recwarn):
    pytest.importorskip('mmdet')
    dataset = mmskip.datasets.UADETRACDataset(data_root=str(toy))
    assert len(dataset) == 4 * 12
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    instances = [i for info in infos for i in info['instances']]
    vehicles = [i for i in instances if not i['ignore_flag']]
    assert len(vehicles) > len(dataset)
    assert len({i['bbox_label'] for i in vehicles}) >= 3
    assert all(
        any(i['ignore_flag'] for i in info['instances']) for info in infos
    )
    assert not [w for w in recwarn if 'MVI' in str(w.message)]


def test_a_foreign_folder_is_left_alone(tmp_path, small):
    (tmp_path / 'thesis.txt').write_text('mine')
    with pytest.raises(FileExistsError, match=f'without {MARKER}'):
        make_toy_ua_detrac(tmp_path, **small)
    with pytest.raises(FileExistsError, match='got a file'):
        make_toy_ua_detrac(tmp_path / 'thesis.txt', **small)
    assert [p.name for p in tmp_path.iterdir()] == ['thesis.txt']


def test_an_interrupted_run_leaves_nothing_and_can_be_repeated(tmp_path):
    root = tmp_path / 'toy'
    root.mkdir()
    options = dict(train=Sequences(1, 2), test=Sequences(0, 2), size=(64, 64))

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_toy_ua_detrac(root, **options, on_frame=interrupt)
    assert list(root.iterdir()) == []
    make_toy_ua_detrac(root, **options)
    assert [p.name for p in tmp_path.iterdir()] == ['toy']
    assert len(list(root.rglob('*.jpg'))) == 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(test=Sequences(1, 0)), 'frames >= 1, got 0'),
        (dict(train=Sequences(-1, 1)), 'train_sequences >= 0'),
        (dict(seed=1.5), 'seed >= 0, got 1.5'),
        (dict(size=(32, 320)), 'at least 64 each'),
        (dict(density=0), 'density > 0'),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_toy_ua_detrac(tmp_path / 'toy', **arguments)
    assert list(tmp_path.iterdir()) == []
