"""Pictures: upright, of square pixels, 8 bit, whatever they were before."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image

from mmskip.video import open_reader
from mmskip.video.decoding import GreyWindow, orient, without_password
from tests.apis.fakes import noise_frames
from tests.video.videos import write_frames


def images_of(source):
    with open_reader(source, str) as reader:
        return [frame.image for frame in reader]


@pytest.mark.parametrize('turns', [0, 1, 2, 3])
def test_a_turned_video_is_read_upright(tmp_path, turns):
    frames = noise_frames(3)
    # As a phone writes it that was held so: the player is to turn it back.
    held = [np.ascontiguousarray(np.rot90(image, -turns)) for image in frames]
    path = write_frames(tmp_path / 'a.mov', held, rotation=90 * turns)
    for found, image in zip(images_of(path), frames, strict=True):
        assert found.flags.c_contiguous
        assert np.array_equal(found, image)


@pytest.mark.parametrize(
    ('axes', 'expected'),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((-1, 0, 0, -1), lambda image: image[::-1, ::-1]),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).transpose(1, 0, 2)),
    ],
)
def test_all_eight_orientations_are_known(axes, expected):
    image = noise_frames(1)[0]
    matrix = np.zeros((3, 3), np.int32)
    matrix[:2, :2] = np.reshape(axes, (2, 2)) * 2**16
    assert np.array_equal(orient(image, matrix.tobytes()), expected(image))


@pytest.mark.parametrize(
    ('aspect', 'width'), [(Fraction(2), 128), (Fraction(3, 4), 48)]
)
def test_pixels_become_square(tmp_path, aspect, width):
    frames = [np.full((48, 64, 3), 90, np.uint8)]
    path = write_frames(tmp_path / 'a.mov', frames, aspect=aspect)
    (image,) = images_of(path)
    assert image.shape == (48, width, 3)
    assert (image == 90).all()


def test_odd_sizes_stay(tmp_path):
    frames = noise_frames(2, (129, 63))
    path = write_frames(tmp_path / 'a.mkv', frames, 'ffv1', 'bgr0')
    assert np.array_equal(images_of(path)[1], frames[1])


def test_colours_of_ten_bits_keep_the_highest_eight(tmp_path):
    level = np.full((48, 64, 3), 130, np.uint8)
    path = write_frames(tmp_path / 'a.mkv', [level], 'ffv1', 'yuv420p10le')
    assert abs(images_of(path)[0].astype(int) - 130).max() <= 1


def test_alpha_is_ignored(tmp_path):
    image = noise_frames(1)[0]
    path = write_frames(tmp_path / 'a.mov', [image], 'png', 'rgba')
    assert np.array_equal(images_of(path)[0], image)
    alpha = np.full((48, 64, 1), 3, np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), np.dstack([image, alpha]))
    assert np.array_equal(images_of(tmp_path / 'a.png')[0], image)


def thermal(low, high, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(low, high + 1, (48, 64)).astype(np.uint16)


def write_thermal(tmp_path, kind, images):
    if kind == 'video':
        return write_frames(tmp_path / 'a.mkv', images, 'ffv1', 'gray16le')
    folder = tmp_path / 'images'
    folder.mkdir()
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f'{number}.png'), image)
    return folder


@pytest.mark.parametrize('kind', ['video', 'folder'])
def test_deep_grey_is_seen_through_a_window_that_stays(tmp_path, kind):
    images = [thermal(7000, 9000), thermal(7500, 8500), thermal(7000, 9500)]
    path = write_thermal(tmp_path, kind, images)
    warnings = []
    with open_reader(path, warnings.append) as reader:
        found = [frame.image for frame in reader]
    assert all(image.shape == (48, 64, 3) for image in found)
    # Half a span of about 1960 on either side of 7020 to 8980.
    (warning,) = warnings
    low, high = (
        int(x) for x in warning.split() if x.isdecimal() and len(x) > 3
    )
    assert 6000 <= low <= 6080
    assert 9920 <= high <= 10000
    for image, values in zip(found, images, strict=True):
        expected = (values - float(low)) * 255 / (high - low)
        assert abs(image[:, :, 1] - expected).max() <= 1


def test_a_flat_frame_chooses_no_window():
    warnings = []
    window = GreyWindow('a', warnings.append)
    assert (window(np.full((48, 64), 7000, np.uint16)) == 128).all()
    assert not warnings
    window(thermal(7000, 9000))
    assert len(warnings) == 1
    # A shutter between two scenes does not move it either.
    window(np.full((48, 64), 20000, np.uint16))
    assert window(thermal(7000, 9000)).std() > 30
    assert len(warnings) == 1


def test_a_frame_that_is_mostly_cut_off_moves_the_window():
    warnings = []
    window = GreyWindow('a', warnings.append)
    window(thermal(7000, 9000))
    assert window(thermal(20000, 24000)).std() > 30
    assert len(warnings) == 2


def test_pixels_without_a_number_are_no_obstacle():
    image = thermal(7000, 9000).astype(np.float32)
    image[0, 0] = np.nan
    assert GreyWindow('a', str)(image)[1:].std() > 30


def test_colours_of_sixteen_bits_keep_their_share(tmp_path):
    image = noise_frames(1)[0]
    cv2.imwrite(str(tmp_path / 'a.png'), image.astype(np.uint16) * 257)
    assert np.array_equal(images_of(tmp_path / 'a.png')[0], image)


def test_the_orientation_of_an_image_is_applied(tmp_path):
    image = Image.fromarray(np.full((48, 64, 3), 90, np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / 'a.jpg', exif=exif)
    assert images_of(tmp_path / 'a.jpg')[0].shape == (64, 48, 3)


def test_grey_images_have_three_channels(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((4, 6), 7, np.uint8))
    assert (images_of(tmp_path / 'a.png')[0] == np.full((4, 6, 3), 7)).all()


@pytest.mark.parametrize(
    ('source', 'shown'),
    [
        ('rtsp://admin:a@b@cam/x', 'rtsp://admin:***@cam/x'),
        ('rtsp://admin@cam/x', 'rtsp://admin@cam/x'),
        ('http://cam:80/a@b', 'http://cam:80/a@b'),
        ('a:b@c.mp4', 'a:b@c.mp4'),
    ],
)
def test_passwords_are_not_shown(source, shown):
    assert without_password(source) == shown
