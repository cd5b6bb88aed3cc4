import numpy as np
import pytest
import torch

from mmskip.visualization import (
    InputMap,
    caption,
    computed_pixels,
    mirrored_sites,
    tint,
)


def mask(rows):
    return torch.tensor(rows, dtype=torch.bool)[None, None]


def test_a_map_of_the_frames_size_is_itself():
    input_map = InputMap(1, 1, 0, 0, 2, 3)
    rows = [[1, 0, 0], [0, 1, 1]]
    share = computed_pixels({('a', 0): mask(rows)}, input_map, (2, 3))
    np.testing.assert_array_equal(share, rows)
    assert share.dtype == np.float32


def test_a_smaller_map_covers_blocks_of_pixels():
    input_map = InputMap(1, 1, 0, 0, 4, 4)
    masks = {('a', 0): mask([[1, 0], [0, 1]])}
    share = computed_pixels(masks, input_map, (4, 4))
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    np.testing.assert_array_equal(share, expected)


def test_maps_are_averaged_by_their_positions():
    input_map = InputMap(1, 1, 0, 0, 2, 2)
    masks = {
        ('a', 0): mask([[1, 0], [0, 0]]),
        ('b', 0): mask([[1, 1], [0, 0]]),
        ('b', 1): mask([[1, 0]]),
    }
    share = computed_pixels(masks, input_map, (2, 2))
    np.testing.assert_allclose(share, [[1, 0.4], [0.2, 0]], atol=1e-6)


def test_a_stride_looks_at_the_middle_of_blocks():
    input_map = InputMap(1, 1, 0, 0, 6, 8)
    rows = np.arange(48).reshape(6, 8) % 2
    masks = {('a', 0): mask(rows.tolist()), ('b', 0): mask([[1, 0]])}
    whole = computed_pixels(masks, input_map, (6, 8))
    share = computed_pixels(masks, input_map, (6, 8), stride=4)
    # The last two rows are a block whose middle lies on the edge.
    assert share.shape == (2, 2)
    np.testing.assert_array_equal(share[:1], whole[2:3, 2::4])
    odd = computed_pixels(masks, input_map, (6, 8), stride=3)
    np.testing.assert_array_equal(odd[:, :2], whole[1::3, 1:6:3])


def test_more_maps_than_a_byte_counts_are_averaged():
    input_map = InputMap(1, 1, 0, 0, 1, 2)
    masks = {('a', n): mask([[1, n % 2]]) for n in range(600)}
    share = computed_pixels(masks, input_map, (1, 2))
    np.testing.assert_allclose(share, [[1, 0.5]], atol=1e-6)


def test_globally_pooled_maps_are_left_out():
    input_map = InputMap(1, 1, 0, 0, 2, 2)
    masks = {('a', 0): mask([[1, 0], [0, 0]]), ('se', 0): mask([[1]])}
    share = computed_pixels(masks, input_map, (2, 2))
    np.testing.assert_array_equal(share, [[1, 0], [0, 0]])


def test_windows_of_time_are_averaged():
    input_map = InputMap(1, 1, 0, 0, 1, 2)
    time = torch.tensor([[[1, 0]], [[1, 1]]], dtype=torch.bool)[None, None]
    share = computed_pixels({('a', 0): time}, input_map, (1, 2))
    np.testing.assert_array_equal(share, [[1, 0.5]])


def test_padding_of_the_input_is_cut_off():
    # 2 x 4 frame, doubled to 4 x 8 and padded to 8 x 8 below.
    meta = dict(scale_factor=(2.0, 2.0), batch_input_shape=(8, 8))
    input_map = InputMap.from_metainfo(meta, (2, 4))
    rows = np.zeros((8, 8), dtype=int)
    rows[4:] = 1
    masks = {('a', 0): mask(rows.tolist())}
    assert computed_pixels(masks, input_map, (2, 4)).sum() == 0
    rows[:4, 6:] = 1
    masks = {('a', 0): mask(rows.tolist())}
    share = computed_pixels(masks, input_map, (2, 4))
    np.testing.assert_array_equal(share, [[0, 0, 0, 1], [0, 0, 0, 1]])


def test_a_letterbox_shifts():
    # 4 x 4 frame in the middle of a 4 x 8 input.
    meta = dict(
        scale_factor=(1.0, 1.0),
        batch_input_shape=(4, 8),
        pad_param=np.array([0.0, 0.0, 2.0, 2.0]),
    )
    input_map = InputMap.from_metainfo(meta, (4, 4))
    row = [0, 0, 1, 0, 0, 1, 0, 0]
    share = computed_pixels({('a', 0): mask([row] * 4)}, input_map, (4, 4))
    np.testing.assert_array_equal(share, [[1, 0, 0, 1]] * 4)


def test_scales_of_both_axes_are_told_apart():
    # 4 x 2 frame squeezed to 2 x 2.
    meta = dict(scale_factor=(1.0, 0.5), batch_input_shape=(2, 2))
    input_map = InputMap.from_metainfo(meta, (4, 2))
    masks = {('a', 0): mask([[0, 1], [1, 0]])}
    share = computed_pixels(masks, input_map, (4, 2))
    np.testing.assert_array_equal(share, [[0, 1], [0, 1], [1, 0], [1, 0]])


def test_without_meta_information_the_frame_fills_the_input():
    input_map = InputMap.from_metainfo(dict(img_shape=(2, 2)), (4, 4))
    masks = {('a', 0): mask([[0, 1], [0, 0]])}
    share = computed_pixels(masks, input_map, (4, 4))
    np.testing.assert_array_equal(share[:2, 2:], 1)
    assert share.sum() == 4


def test_a_crop_covers_its_box_only():
    # A box of 4 x 4 pixels from (2, 1) in an 8 x 6 frame, enlarged to 8 x 8.
    meta = dict(
        input_center=np.array([[4.0, 3.0]]),
        input_scale=np.array([[4.0, 4.0]]),
        input_size=(8, 8),
    )
    input_map = InputMap.from_metainfo(meta, (6, 8))
    masks = {('a', 0): mask(np.ones((8, 8), dtype=int).tolist())}
    share = computed_pixels(masks, input_map, (6, 8))
    # Pixels' centres lie within the box moved by half an input pixel.
    expected = np.zeros((6, 8))
    expected[1:5, 2:6] = 1
    np.testing.assert_array_equal(share, expected)


def test_a_crop_agrees_with_mmposes_own_matrix():
    bbox = pytest.importorskip('mmpose.structures.bbox')
    center, scale = np.array([31.0, 17.0]), np.array([24.0, 32.0])
    matrix = bbox.get_warp_matrix(center, scale, 0.0, (48, 64))
    meta = dict(input_center=center, input_scale=scale, input_size=(48, 64))
    input_map = InputMap.from_metainfo(meta, (40, 60))
    # The matrix takes indices; half a pixel on are the centres.
    x, y = matrix @ [20.0, 9.0, 1.0]
    assert x + 0.5 == pytest.approx(
        input_map.scale_x * 20.5 + input_map.shift_x
    )
    assert y + 0.5 == pytest.approx(
        input_map.scale_y * 9.5 + input_map.shift_y
    )


def test_the_mirrored_half_of_a_flip_test_is_mirrored_back():
    masks = {
        ('a', 0): mask([[1, 0, 0]]),
        ('a', 1): mask([[0, 0, 1]]),
    }
    assert mirrored_sites(masks) == {('a', 1)}
    input_map = InputMap(1, 1, 0, 0, 1, 3)
    share = computed_pixels(masks, input_map, (1, 3), mirrored_sites(masks))
    np.testing.assert_array_equal(share, [[1, 0, 0]])


def test_a_shared_layers_calls_are_halved():
    masks = {('head', n): None for n in range(4)} | {('stem', 0): None}
    assert mirrored_sites(masks) == {('head', 2), ('head', 3)}


def test_the_tint_follows_the_share_and_leaves_the_rest():
    image = np.full((1, 3, 3), 100, dtype=np.uint8)
    share = np.array([[0, 0.5, 1]], dtype=np.float32)
    tinted = tint(image, share, color=(200, 0, 100), opacity=0.5)
    expected = [[[100] * 3, [125, 75, 100], [150, 50, 100]]]
    np.testing.assert_array_equal(tinted, expected)
    np.testing.assert_array_equal(image, 100)


def test_a_share_of_another_size_is_stretched():
    image = np.full((6, 4, 3), 100, dtype=np.uint8)
    share = np.array([[0, 1], [0, 0]], dtype=np.float32)
    tinted = tint(image, share, color=(200, 0, 100), opacity=0.5)
    np.testing.assert_array_equal(tinted[:3, 2:], [[[150, 50, 100]] * 2] * 3)
    tinted[:3, 2:] = 100
    np.testing.assert_array_equal(tinted, image)


def test_any_tint_is_within_one_of_the_exact_one():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    share = rng.random((40, 60), dtype=np.float32)
    share[:10] = 0
    tinted = tint(image, share, color=(200, 0, 100), opacity=0.5)
    alpha = share[..., None] / 2
    exact = image * (1 - alpha) + alpha * np.array([200, 0, 100])
    # Half a step each of opacity, of what stays and of what is added.
    assert np.abs(tinted - exact).max() <= 1.5
    np.testing.assert_array_equal(tinted[:10], image[:10])


def test_without_anything_computed_a_tint_is_a_copy():
    image = np.full((2, 3, 3), 100, dtype=np.uint8)
    tinted = tint(image, np.zeros((1, 1), np.float32))
    np.testing.assert_array_equal(tinted, image)
    assert not np.shares_memory(tinted, image)


@pytest.mark.parametrize('size', [(48, 64), (1080, 1920), (20, 20)])
def test_a_caption_fits_any_image(size):
    image = np.full((*size, 3), 90, dtype=np.uint8)
    written = caption(image, '12: 0.105 of 11.3 GMAC, tinted: computed')
    assert written.shape == image.shape
    assert (written != image).any()
    assert (written[-1] == 90).all()
    assert (image == 90).all()
