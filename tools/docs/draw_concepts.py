"""Draw the pictures of docs/concepts.md, one per word.

Every picture is computed: a small scene, a number that drifts, layers of
known sizes. Example::

    python tools/docs/draw_concepts.py --out docs/images/concepts
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK = '#0072B2', '#D55E00', '#009E73', '#CC79A7'
GREY, PALE = '#666666', '#E8E8E8'
SIDE = 16  # pixels of a drawn frame
THRESHOLD = 0.12


def make_figure(width: float, height: float, **options: Any) -> Figure:
    """Make a figure without a window, of a size in inches."""
    figure = Figure(
        figsize=(width, height), dpi=120, layout='constrained', **options
    )
    FigureCanvasAgg(figure)
    return figure


def blank(axes: Any, width: float, height: float) -> Any:
    """Turn axes into a sheet of paper of a width and a height."""
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_aspect('equal')
    axes.axis('off')
    return axes


def box(
    axes: Any,
    place: tuple[float, float, float, float],
    text: str = '',
    face: str = PALE,
    colour: str = 'black',
) -> None:
    """Draw a rectangle (x, y, width, height) with a text in its middle."""
    x, y, width, height = place
    axes.add_patch(
        Rectangle((x, y), width, height, facecolor=face, edgecolor='0.35')
    )
    axes.text(
        x + width / 2,
        y + height / 2,
        text,
        ha='center',
        va='center',
        fontsize=9,
        color=colour,
    )


def arrow(
    axes: Any,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str = '0.35',
) -> None:
    """Draw an arrow between two points."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle='-|>',
            mutation_scale=11,
            color=colour,
            shrinkA=0,
            shrinkB=0,
        )
    )


def scene(step: int) -> np.ndarray:
    """A frame of a still street in which one vehicle moves, (SIDE, SIDE)."""
    image = np.full((SIDE, SIDE), 0.55)
    image[:6] = 0.8
    image[2:6, 2:5] = 0.35
    image[3:6, 11:14] = 0.3
    image[9:13, 2 + step : 7 + step] = 0.1
    return image


def support_mean(residual: np.ndarray) -> np.ndarray:
    """Mean absolute residual in the 3 x 3 support of each output."""
    padded = np.pad(np.abs(residual), 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return windows.mean((2, 3))


def show(axes: Any, image: np.ndarray, title: str, **options: Any) -> None:
    """Show a map with its pixels as squares."""
    axes.imshow(image, interpolation='nearest', **options)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


def draw_residual() -> Figure:
    """Two frames and what differs between them."""
    figure = make_figure(6.6, 2.4)
    left, middle, right = figure.subplots(1, 3)
    grey = dict(cmap='gray', vmin=0, vmax=1)
    show(left, scene(2), '$x_t$: this frame', **grey)
    show(middle, scene(0), '$x_{t-1}$: remembered', **grey)
    show(
        right,
        scene(2) - scene(0),
        '$r_t = x_t - x_{t-1}$',
        cmap='RdBu',
        vmin=-0.6,
        vmax=0.6,
    )
    for axes, sign in ((left, '−'), (middle, '=')):
        axes.text(
            1.1,
            0.5,
            sign,
            transform=axes.transAxes,
            ha='center',
            va='center',
            fontsize=18,
        )
    return figure


def draw_gate() -> Figure:
    """From a residual over its norm to masks, of outputs and of blocks."""
    figure = make_figure(7.6, 2.4)
    panels = figure.subplots(1, 4)
    residual = scene(2) - scene(0)
    norm = support_mean(residual)
    mask = norm > THRESHOLD
    pairs = mask.reshape(8, 2, 8, 2).any((1, 3))
    blocks = pairs.repeat(2, 0).repeat(2, 1)
    show(panels[0], residual, 'residual', cmap='RdBu', vmin=-0.6, vmax=0.6)
    show(panels[1], norm, 'norm in the support', cmap='magma', vmin=0)
    for axes, fired, name in (
        (panels[2], mask, 'mask'),
        (panels[3], blocks, 'in blocks of 2'),
    ):
        title = f'{name}: {fired.mean():.0%} fire'
        show(axes, fired, title, cmap='Blues', vmin=0, vmax=1.4)
        axes.set_xticks(np.arange(SIDE) - 0.5, minor=True)
        axes.set_yticks(np.arange(SIDE) - 0.5, minor=True)
        axes.grid(which='minor', color='0.8', linewidth=0.5)
        axes.tick_params(which='minor', length=0)
    panels[1].set_xlabel(f'> {THRESHOLD}: compute', fontsize=9)
    return figure


def follow(inputs: Sequence[float], accumulates: bool) -> list[float]:
    """Run one pixel through a gate and return what its output shows."""
    reference = output = inputs[0]
    outputs = []
    for value in inputs:
        fires = abs(value - reference) > THRESHOLD
        if fires:
            output += value - reference
        if fires or not accumulates:
            reference = value
        outputs.append(output)
    return outputs


def draw_memory() -> Figure:
    """A pixel that brightens slowly, under both kinds of memory."""
    figure = make_figure(6.6, 2.9)
    axes = figure.subplots()
    steps = np.arange(31)
    inputs = 0.1 + 0.03 * np.clip(steps - 3, 0, 20)
    axes.plot(steps, inputs, color=GREY, linewidth=2, label='the input')
    for accumulates, colour, name in (
        (True, BLUE, "memory='accumulated'"),
        (False, ORANGE, "memory='previous' (the paper)"),
    ):
        axes.step(
            steps,
            follow(inputs, accumulates),
            where='post',
            color=colour,
            linewidth=2,
            label=name,
        )
    axes.annotate(
        'each step is below the threshold,\nso all of them are forgotten',
        (24, 0.11),
        (17.5, 0.2),
        fontsize=9,
        color=ORANGE,
    )
    axes.set_xlabel('frame')
    axes.set_ylabel('value of a pixel')
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc='upper left')
    return figure


def draw_stream() -> Figure:
    """Two cameras, one model, a memory for each."""
    figure = make_figure(7.6, 2.7)
    axes = blank(figure.subplots(), 15.2, 5)
    rates = (
        (1, 0.12, 0.1, 0.15, 0.12, 1, 0.2, 0.12),
        (1, 0.3, 0.25, 0.35, 0.3, 0.25, 0.3, 0.35),
    )
    for row, (name, colour) in enumerate((('A', BLUE), ('B', GREEN))):
        y = 3.2 - 2.4 * row
        axes.text(0, y + 0.5, f'camera {name}', va='center', fontsize=10)
        for t, rate in enumerate(rates[row]):
            x = 2.4 + 1.15 * t
            box(axes, (x, y, 1, 1), face='white')
            axes.add_patch(
                Rectangle((x, y), 1, rate, facecolor=colour, alpha=0.6)
            )
            if rate == 1:
                axes.text(
                    x + 0.5,
                    y + 0.5,
                    'ref.',
                    ha='center',
                    va='center',
                    color='white',
                    fontsize=9,
                )
        arrow(axes, (11.7, y + 0.5), (12.4, y + 0.5))
        box(axes, (12.4, y, 2.7, 1), f'StreamState {name.lower()}')
    axes.text(2.4, 4.45, 'first frame', fontsize=9, color=GREY)
    axes.text(8.15, 4.45, 'new size', fontsize=9, color=GREY)
    axes.text(
        6.9,
        2.5,
        'filled: what is computed of a frame',
        ha='center',
        fontsize=9,
        color=GREY,
    )
    return figure


def draw_clip() -> Figure:
    """Two clips of four frames, and the batch that they become."""
    figure = make_figure(7.6, 2.4)
    axes = blank(figure.subplots(), 15.2, 4.6)
    for clip, colour in enumerate((BLUE, ORANGE)):
        y = 2.6 - 1.4 * clip
        axes.text(0, y + 0.5, f'clip {clip}', va='center', fontsize=10)
        for t in range(4):
            place = 1.4 + 1.05 * t, y, 1, 1
            box(axes, place, f'$t={t}$', face=colour, colour='white')
    arrow(axes, (5.9, 2.4), (6.6, 2.4))
    for image in range(8):
        clip, t = divmod(image, 4)
        place = 6.8 + 1.05 * image, 1.9, 1, 1
        colour = (BLUE, ORANGE)[clip]
        box(axes, place, f'{clip}, {t}', face=colour, colour='white')
        if t == 0:
            axes.text(
                place[0] + 0.5, 1.25, 'reference', ha='center', fontsize=8
            )
    axes.text(
        11,
        3.3,
        'one batch of $B \\cdot T = 8$ images: (B*T, C, H, W)',
        ha='center',
        fontsize=10,
    )
    return figure


def draw_plan() -> Figure:
    """The same four steps, layer by layer and in a plan."""
    figure = make_figure(7.8, 3.3)
    axes = blank(figure.subplots(), 15.6, 6.6)
    steps = ('conv', 'add', 'pool', 'conv')
    axes.text(0, 6.1, 'layer by layer', fontsize=10, weight='bold')
    axes.text(0, 2.7, 'plan', fontsize=10, weight='bold')
    for place, step in enumerate(steps):
        x = 0.3 + 3.9 * place
        whole = step == 'conv'
        note = (
            'compares its\nwhole input' if whole else 'computes its\nwhole map'
        )
        box(axes, (x, 4.5, 2.4, 1), step)
        axes.text(x + 1.2, 3.7, note, ha='center', fontsize=8, color=ORANGE)
        box(axes, (x, 1.1, 2.4, 1), step)
        axes.text(
            x + 1.2,
            0.3,
            'computes only\nwhere it changed',
            ha='center',
            fontsize=8,
            color=BLUE,
        )
        if place < 3:
            arrow(axes, (x + 2.4, 5), (x + 3.9, 5))
            arrow(axes, (x + 2.4, 1.6), (x + 3.9, 1.6), BLUE)
            axes.text(
                x + 3.15, 5.2, 'map', ha='center', fontsize=8, color=GREY
            )
            axes.text(
                x + 3.15,
                1.8,
                'changed\nrows',
                ha='center',
                fontsize=8,
                color=BLUE,
            )
    return figure


def draw_ledger() -> Figure:
    """Dense, executed and overhead MACs of four layers of known sizes."""
    # Name, side of the map, channels in and out, kernel, firing rate.
    layers = (
        ('stem', 112, 3, 32, 9, 0.35),
        ('stage 1', 56, 32, 64, 9, 0.2),
        ('stage 2', 28, 64, 128, 9, 0.15),
        ('head', 28, 128, 64, 1, 0.3),
    )
    figure = make_figure(6.6, 2.7)
    axes = figure.subplots()
    for row, (_, side, inner, outer, kernel, rate) in enumerate(layers):
        dense = side**2 * inner * outer * kernel / 1e6
        gate = side**2 * (inner + kernel) / 1e6
        texts = ('dense', 'executed', 'overhead of the gate')
        labels = texts if row == 0 else (None,) * 3
        axes.barh(row, dense, 0.7, facecolor=PALE, label=labels[0])
        axes.barh(row, dense * rate, 0.7, color=BLUE, label=labels[1])
        axes.barh(
            row,
            gate,
            0.7,
            left=dense * rate,
            color=ORANGE,
            label=labels[2],
        )
        axes.text(
            dense + 0.6,
            row,
            f'{dense / (dense * rate + gate):.1f}x fewer',
            va='center',
            fontsize=9,
        )
    axes.set_yticks(range(len(layers)), [layer[0] for layer in layers])
    axes.invert_yaxis()
    axes.set_xlim(0, 84)
    axes.set_xlabel('million MACs of one frame')
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc='lower right')
    return figure


DRAWINGS: dict[str, Callable[[], Figure]] = {
    'residual': draw_residual,
    'gate': draw_gate,
    'memory': draw_memory,
    'stream': draw_stream,
    'clip': draw_clip,
    'plan': draw_plan,
    'ledger': draw_ledger,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Write a PNG for each word."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--out', type=Path, default=Path('docs/images/concepts')
    )
    out = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWINGS.items():
        # Without the version of matplotlib in it, a picture that did not
        # change is the same file.
        draw().savefig(out / f'{name}.png', metadata={'Software': None})


if __name__ == '__main__':
    main()
