"""Annotation files: both editions, and what may be wrong with them."""

import re

import pytest

from mmskip.datasets.ua_detrac_release import clip_box, read_sequence
from mmskip.reading import InputError


def write(tmp_path, body: str, name: str = 'MVI_20011'):
    path = tmp_path / f'{name}.xml'
    path.write_text(f'<sequence name="{name}">{body}</sequence>')
    return path


def target(box: str = 'left="1" top="1" width="2" height="3"', **attributes):
    kind = attributes.pop('kind', 'car')
    track = attributes.pop('id', 7)
    return (
        f'<target id="{track}"><box {box}/>'
        f'<attribute vehicle_type="{kind}"/></target>'
    )


def frame(*targets: str, num: int = 1, density: int | None = None):
    count = len(targets) if density is None else density
    return (
        f'<frame density="{count}" num="{num}"><target_list>'
        f'{"".join(targets)}</target_list></frame>'
    )


def test_pixels_and_frames_count_from_zero(tmp_path):
    body = '<ignored_region><box left="5" top="0.5" width="6" height="7"/>'
    body += '</ignored_region>' + frame(
        target('left="592.75" top="378.5" width="160" height="162.5"'), num=3
    )
    annotation = read_sequence(write(tmp_path, body))
    assert annotation.name == 'MVI_20011'
    assert annotation.ignored_regions == ((4.0, -0.5, 10.0, 6.5),)
    assert list(annotation.frames) == [2]
    (only,) = annotation.frames[2]
    assert only.box == (591.75, 377.5, 751.75, 540.0)
    assert (only.track_id, only.vehicle_type) == (7, 'car')


def test_short_box_attributes_and_capitals_are_read(tmp_path):
    body = frame(
        target('h="71.5" left="256" top="201" w="67"', kind='Truck-Pickup')
    )
    (only,) = read_sequence(write(tmp_path, body)).frames[0]
    assert only.box == (255.0, 200.0, 322.0, 271.5)
    assert only.vehicle_type == 'truck-pickup'


def test_region_overlaps_are_no_boxes_of_the_vehicle(tmp_path):
    overlap = (
        '<occlusion><region_overlap left="9" top="9" width="1" height="1" '
        'occlusion_id="2" occlusion_status="0"/></occlusion></target>'
    )
    body = frame(target().replace('</target>', overlap))
    (only,) = read_sequence(write(tmp_path, body)).frames[0]
    assert only.box == (0.0, 0.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ('body', 'message'),
    [
        (frame(target(), num=0), 'frame numbers 1, 2'),
        (frame(target(), num=1.5), 'frame numbers 1, 2'),
        (frame(target()) + frame(target()), 'one <frame> element'),
        ('<frame density="0"/>', "attribute 'num'"),
        (frame(target('left="1" top="1" width="2"')), "'height' or 'h'"),
        (frame(target('left="1" top="nan" width="2" h="2"')), "'top'"),
        (frame(target('left="1" top="1" width="0" h="2"')), 'positive size'),
        (frame(target(id='x')), "attribute 'id'"),
        (frame(target(kind='')), 'vehicle_type'),
        (frame('<target id="1"/>'), 'a <box>'),
        ('<ignored_region><box left="1"/></ignored_region>', 'region 1'),
    ],
)
def test_malformed_numbers_are_refused_by_file_and_place(
    tmp_path, body, message
):
    path = write(tmp_path, body)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_sequence(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize('text', ['', '<sequence name="x"><frame>', 'no'])
def test_a_file_that_is_no_xml_is_refused_by_name(tmp_path, text):
    path = tmp_path / 'MVI_20011.xml'
    path.write_text(text)
    with pytest.raises(ValueError, match=r'MVI_20011\.xml.*cannot be read'):
        read_sequence(path)


def test_another_xml_is_refused_by_name(tmp_path):
    path = tmp_path / 'MVI_20011.xml'
    path.write_text('<annotation/>')
    with pytest.raises(ValueError, match=r'MVI_20011\.xml.*<annotation>'):
        read_sequence(path)


@pytest.mark.parametrize(
    ('body', 'message', 'targets'),
    [
        (frame(target(), density=3), 'density="3" but 1 targets', 1),
        (frame(target(), target()), 'target id twice', 2),
        (
            frame(target(), density=3) + frame(target(), num=2, density=0),
            '(and 1 more)',
            1,
        ),
    ],
)
def test_contradictions_give_one_warning_that_names_the_file(
    tmp_path, body, message, targets
):
    path = write(tmp_path, body)
    with pytest.warns(UserWarning, match=re.escape(message)) as record:
        annotation = read_sequence(path)
    assert len(record) == 1
    assert str(path) in str(record[0].message)
    assert len(annotation.frames[0]) == targets


@pytest.mark.parametrize(
    ('box', 'clipped'),
    [
        ((-0.5, 1, 5, 6), [0, 1, 5, 6]),
        ((90, 60, 101, 71), [90, 60, 96, 64]),
        ((96, 0, 100, 5), None),
        ((0, -5, 5, 0), None),
    ],
)
def test_boxes_are_clipped_to_the_image(box, clipped):
    assert clip_box(box, (96, 64)) == clipped


BOMB = ''.join(
    f'<!ENTITY {this} "{f"&{before};" * 10}">'
    for before, this in zip('abcdefghi', 'bcdefghij', strict=True)
)


@pytest.mark.parametrize(
    'head',
    [
        '<?xml version="1.0" encoding="utf-99"?>',
        '<?xml version="1.0" encoding="shift_jis"?>',
        '<?xml version="1.0" encoding="utf-16"?>',
        f'<!DOCTYPE sequence [<!ENTITY a "aaaaaaaaaa">{BOMB}]>',
    ],
    ids=['unknown', 'multibyte', 'wrong', 'bomb'],
)
def test_encodings_and_entities_are_refused_by_name(tmp_path, head):
    path = tmp_path / 'MVI_1.xml'
    path.write_text(f'{head}<sequence name="&j;"></sequence>')
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_sequence(path)


@pytest.mark.parametrize('track', ['1.5', '-1', '1e400', 'nan'])
def test_a_track_has_a_whole_number(tmp_path, track):
    path = write(tmp_path, frame(target(id=track)))
    with pytest.raises(InputError, match=rf'{path}: frame 1'):
        read_sequence(path)


def test_elements_of_other_names_are_counted(tmp_path):
    """A misspelt frame would be one without vehicles."""
    lost = frame(target(), num=2).replace('frame', 'frome')
    path = write(tmp_path, frame(target()) + lost)
    with pytest.warns(UserWarning, match=r"1 elements 'frome' are not known"):
        assert list(read_sequence(path).frames) == [0]
