import pytest

from mmskip.apis import UserError
from mmskip.apis.cameras import (
    CameraOptions,
    name_cameras,
    read_cameras,
)
from mmskip.reading import InputError


def names(*sources):
    return [c.name for c in name_cameras([CameraOptions(s) for s in sources])]


def test_names_come_from_the_sources_and_are_different():
    assert names('a/door.mp4', '0', 'b/door.mp4') == [
        'door', 'camera0', 'door-2',
    ]  # fmt: skip


def test_a_name_holds_no_password():
    assert names('rtsp://me:secret@10.0.0.1:554/live') == ['10.0.0.1-554-live']


def test_outputs_carry_the_name():
    (camera,) = name_cameras(
        [CameraOptions('0', out='r/{name}.mp4', results=['r/{name}.jsonl'])]
    )
    assert (camera.out, camera.results) == (
        'r/camera0.mp4',
        ['r/camera0.jsonl'],
    )


def test_two_cameras_do_not_write_one_file():
    cameras = [CameraOptions(s, results=['all.jsonl']) for s in '01']
    with pytest.raises(UserError, match=r'results/\{name\}\.jsonl'):
        name_cameras(cameras)


def test_two_cameras_of_one_name_are_refused():
    with pytest.raises(UserError, match='different names'):
        name_cameras([CameraOptions(s, name='door') for s in '01'])


def test_a_file_of_cameras(tmp_path):
    path = tmp_path / 'cameras.yaml'
    path.write_text(
        'cameras:\n'
        '- {source: 0, name: yard, ignore: [[0, 0, 1, 0, 1, 1]]}\n'
        '- {source: rtsp://host/live, results: other.jsonl}\n'
    )
    common = CameraOptions('', results=['{name}.jsonl'])
    yard, other = name_cameras(read_cameras(path, common))
    assert (yard.source, yard.name, yard.results) == (
        '0',
        'yard',
        ['yard.jsonl'],
    )
    assert (other.source, other.results) == (
        'rtsp://host/live',
        ['other.jsonl'],
    )
    mask = yard.make_region().mask((40, 40))
    assert not mask[5, 35]
    assert mask[35, 5]
    assert other.make_region() is None


def test_one_polygon_or_picture_need_not_be_a_list(tmp_path):
    path = tmp_path / 'cameras.yaml'
    path.write_text(
        '- {source: 0, region: [0, 0, 9, 0, 9, 9], ignore: trees.png}'
    )
    (camera,) = read_cameras(path, CameraOptions(''))
    assert camera.region == [[(0, 0), (9, 0), (9, 9)]]
    assert camera.ignore == ['trees.png']


@pytest.mark.parametrize(
    ('text', 'what'),
    [
        ('', 'expected a list of cameras'),
        ('cameras: []', 'expected a list of cameras'),
        ('[{name: a}]', 'a camera with a source'),
        ('[{source: a, sauce: b}]', 'got sauce'),
        ('[{source: a, region: [1, 2, 3]}]', r'polygon \[x1'),
    ],
)
def test_other_files_are_refused(tmp_path, text, what):
    path = tmp_path / 'cameras.yaml'
    path.write_text(text)
    with pytest.raises(UserError, match=what):
        read_cameras(path, CameraOptions(''))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises((UserError, InputError), match=r'none\.yaml'):
        read_cameras(tmp_path / 'none.yaml', CameraOptions(''))


def test_a_file_that_is_no_yaml_is_named(tmp_path):
    path = tmp_path / 'bad.yaml'
    path.write_text('[{source: a')
    with pytest.raises((UserError, InputError), match=r'bad\.yaml'):
        read_cameras(path, CameraOptions(''))
