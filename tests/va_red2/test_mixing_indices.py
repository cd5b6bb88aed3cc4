"""Which planes the options of a dynamic convolution are made of."""

import itertools

import pytest
import torch

from mmskip.va_red2 import option_sizes
from mmskip.va_red2.mixing import frame_factors, mix_indices

CPU = torch.device('cpu')
USED = [(0,), (1,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]


def terms_of(
    channels=5,
    channel_options=(0, 1, 2),
    frames=6,
    time_options=(0, 1, 2),
    taps=3,
    frames_first=False,
):
    return mix_indices(
        channels,
        channel_options,
        frames,
        time_options,
        taps,
        frames_first,
        CPU,
    )


def targets_of(terms):
    """Sum of each term, in the order of the terms."""
    pattern = terms.pattern
    return pattern.targets[pattern.order.argsort()]


@pytest.mark.parametrize(
    ('size', 'sizes'),
    [(8, (8, 4, 2)), (5, (5, 3, 2)), (3, (3, 2, 1)), (1, (1, 1, 1))],
)
def test_options_halve_and_round_up(size, sizes):
    assert option_sizes(size, 3) == sizes
    assert option_sizes(size, 1) == sizes[:1]


@pytest.mark.parametrize('frames', [1, 2, 5, 8])
@pytest.mark.parametrize('taps', [1, 3])
def test_computed_frames_stay_and_others_come_from_their_neighbours(
    frames, taps
):
    kernels = [torch.randn(2, taps) for _ in range(2)]
    factors = frame_factors(kernels, kernels[0], frames)
    computed = option_sizes(frames, 3)[-1]
    assert factors.shape == (2, frames, computed)
    eye = torch.eye(computed).expand(2, -1, -1)
    assert torch.equal(factors[:, ::4], eye)
    for t in range(frames):
        reach = {t // 4} if taps == 1 else {t // 4 - 1, t // 4, t // 4 + 1}
        used = factors[0, t].nonzero().flatten().tolist()
        assert set(used) <= reach


def test_a_frame_between_is_a_weighted_mean_of_three():
    """At the end of the clip a frame is its own neighbour."""
    kernel = torch.tensor([[0.1, 0.6, 0.3]])
    factors = frame_factors([kernel], kernel, 6)[0]
    expected = [
        [1.0, 0.0, 0.0],
        [0.1 + 0.6, 0.3, 0.0],
        [0.0, 1.0, 0.0],
        [0.1, 0.6, 0.3],
        [0.0, 0.0, 1.0],
        [0.0, 0.1, 0.6 + 0.3],
    ]
    torch.testing.assert_close(factors, torch.tensor(expected))


def test_without_a_step_every_frame_is_computed():
    like = torch.zeros((), dtype=torch.float64)
    factors = frame_factors([], like, 3)
    assert torch.equal(factors, torch.eye(3, dtype=torch.float64)[None])


@pytest.mark.parametrize('channel_options', USED)
@pytest.mark.parametrize('time_options', USED)
def test_every_sum_has_each_term_once(channel_options, time_options):
    """Options that share a computed plane share the term."""
    channels, frames = 5, 6
    terms = terms_of(
        channel_options=channel_options, time_options=time_options
    )
    planes = (
        option_sizes(channels, channel_options[0] + 1)[-1]
        * option_sizes(frames, time_options[0] + 1)[-1]
    )
    targets, sources = targets_of(terms), terms.pattern.sources
    pairs = list(zip(targets.tolist(), sources.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert targets.tolist() == sorted(targets.tolist())
    assert set(targets.tolist()) == set(range(channels * frames))
    assert set(sources.tolist()) <= set(range(planes))
    assert len(terms.channel_slots) == len(channel_options)
    assert len(terms.time_slots) == len(time_options)


def test_a_full_option_is_the_identity():
    terms = terms_of(channel_options=(0,), time_options=(0,))
    assert torch.equal(targets_of(terms), torch.arange(30))
    assert torch.equal(terms.pattern.sources, torch.arange(30))
    assert terms.counts == (5, 6)


def test_channels_repeat_the_computed_ones_in_turn():
    """Of 5 channels 2 are computed, then rebuilt to 3, then to 5."""
    terms = terms_of(channel_options=(2,), frames=1, time_options=(0,))
    assert terms.pattern.sources.tolist() == [0, 1, 0, 0, 1]
    assert terms.counts == (5, 1)
    both = terms_of(channel_options=(1, 2), frames=1, time_options=(0,))
    # Of 3 computed channels: (0, 0), (1, 1), (2, 2), (2, 0), (3, 0), (4, 1).
    assert both.pattern.sources.tolist() == [0, 1, 0, 2, 0, 1]
    assert targets_of(both).tolist() == [0, 1, 2, 2, 3, 4]
    assert [slots.tolist() for slots in both.channel_slots] == [
        [0, 1, 3, 4, 5],
        [0, 1, 2, 4, 5],
    ]


@pytest.mark.parametrize('time_options', USED)
@pytest.mark.parametrize('taps', [1, 3])
def test_frames_are_rebuilt_from_their_slots(time_options, taps):
    """Factors scattered to the terms give the matrix of each option."""
    frames = 7
    kernels = [torch.rand(1, taps) + 0.1 for _ in range(2)]
    terms = terms_of(
        channels=1, channel_options=(0,), frames=frames, taps=taps,
        time_options=time_options,
    )  # fmt: skip
    computed = option_sizes(frames, time_options[0] + 1)[-1]
    parts = zip(time_options, terms.time_slots, terms.time_picks, strict=True)
    for option, slots, picks in parts:
        factors = frame_factors(kernels[:option], kernels[0], frames)[0]
        row = torch.zeros(terms.counts[1])
        row[slots] = factors.flatten()[picks]
        matrix = torch.zeros(frames, computed)
        where = targets_of(terms), terms.pattern.sources
        matrix[where] = row[terms.time]
        step = 2 ** (option - time_options[0])
        expected = torch.zeros(frames, computed)
        expected[:, ::step] = factors
        torch.testing.assert_close(matrix, expected)


def test_the_order_of_computed_planes_is_followed():
    """Frame by frame or channel by channel, sums are the same ones."""
    options = dict(channel_options=(1, 2), time_options=(1,))
    by_channels = terms_of(**options)
    by_frames = terms_of(**options, frames_first=True)
    channels, frames = 3, 3
    assert by_frames.counts == by_channels.counts

    def triples(terms, first):
        for target, source in zip(
            targets_of(terms).tolist(),
            terms.pattern.sources.tolist(),
            strict=True,
        ):
            t, c = divmod(source, channels)
            if not first:
                c, t = divmod(source, frames)
            yield target, c, t

    assert set(triples(by_frames, True)) == set(triples(by_channels, False))


def test_they_are_kept():
    assert terms_of(channels=7) is terms_of(channels=7)
    assert terms_of(channels=7) is not terms_of(channels=7, taps=1)


def test_terms_made_in_inference_mode_serve_a_training():
    mix_indices.cache_clear()
    with torch.inference_mode():
        terms = terms_of(channels=11)
    assert terms_of(channels=11) is terms
    tensors = [
        part
        for field in terms
        for part in (field if isinstance(field, tuple) else (field,))
        if isinstance(part, torch.Tensor)
    ]
    assert len(tensors) == 5 + 2 + 3 + 3 + 3
    assert not any(part.is_inference() for part in tensors)
    values = torch.ones(1, len(terms.channel), requires_grad=True)
    (values[:, terms.pattern.order] * 2).sum().backward()
    assert (values.grad == 2).all()


@pytest.mark.parametrize('frames', [1, 3])
def test_small_sizes_have_all_options(frames):
    for channel_options, time_options in itertools.product(USED, USED):
        terms = terms_of(1, channel_options, frames, time_options)
        assert set(targets_of(terms).tolist()) == set(range(frames))
