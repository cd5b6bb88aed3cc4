"""Outputs of a model and of an export on the same pictures, compared."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from mmskip.apis import UserError

from .export import Export
from .layers import Layer


class Predictions(NamedTuple):
    """Raw outputs of a head, decoded. N: places of all levels.

    Attributes:
        scores: (batch, N, classes).
        boxes: Corners in pixels, (batch, N, 4).
        rows: By name of a form: what the releases of YOLOX give,
            (batch, N, 5 + classes).
    """

    scores: Tensor
    boxes: Tensor
    rows: dict[str, Tensor]


def check_parity(
    model: nn.Module,
    export: Export,
    pairs: Sequence[tuple[Layer, Layer]],
    tolerance: float,
) -> None:
    """Compare a model with an export on two pictures, and print by how much.

    Raises:
        UserError: They differ.
    """
    for name, image in make_pictures(model, export.shape).items():
        found = compare(model, export, pairs, image)
        text = ', '.join(
            f'{what} not compared' if by is None else f'{what} {by:.1e}'
            for what, by in found.items()
        )
        print(f'largest differences, {name}: {text}')
        known = [by for by in found.values() if by is not None]
        if not all(by <= tolerance for by in known):
            raise UserError(
                f'{export.path}: expected outputs that differ from those of '
                f'the model by at most {tolerance}, got {text}; nothing was '
                'written. Does the export begin with a normalisation of its '
                'own, or has the config another activation?'
            )


def compare(
    model: nn.Module,
    export: Export,
    pairs: Sequence[tuple[Layer, Layer]],
    image: Tensor,
) -> dict[str, float | None]:
    """Run a model and an export on a picture and compare their outputs.

    Args:
        model: With the export's weights.
        export: The export.
        pairs: Convolutions of both; those of heads are compared.
        image: The picture.

    Returns:
        Largest differences by what is compared; None for outputs that are
        not.
    """
    pairs = [pair for pair in pairs if pair[0].is_head]
    calls = defaultdict(list)
    hooks = [
        conv.register_forward_hook(
            lambda conv, _, output: calls[conv].append(output)
        )
        for conv in {mine.conv for mine, _ in pairs}
    ]
    with torch.inference_mode():
        raw = model(image, mode='tensor')
    for hook in hooks:
        hook.remove()
    values = export.run(image, [theirs.name for _, theirs in pairs])
    found = defaultdict(list)
    for mine, theirs in pairs:
        got, expected = values[theirs.name], calls[mine.conv].pop(0)
        what = 'boxes' if 'reg' in mine.name else 'scores'
        if what == 'scores':
            got, expected = got.sigmoid(), expected.sigmoid()
        found[what].append(difference(got, expected))
    outputs = [values[n] for n in export.outputs() if n in values]
    form, largest = compare_outputs(
        outputs, raw, model.bbox_head, export.shape[2:]
    )
    return {what: worst(by) for what, by in found.items()} | {form: largest}


def compare_outputs(
    outputs: Sequence[Tensor],
    raw: Sequence[Sequence[Tensor]],
    head: nn.Module,
    size: tuple[int, int],
) -> tuple[str, float | None]:
    """Compare the outputs of an export with those of the model.

    Args:
        outputs: The export's; none, if it cannot be evaluated so far.
        raw: The model's.
        head: The model's head, which decodes them.
        size: Height and width of the picture.

    Returns:
        The form of the outputs, and the largest difference; None where
        there is nothing to compare.
    """
    if not outputs:
        return "outputs behind operators that are not ONNX's own", None
    shapes = [tuple(output.shape) for output in outputs]
    levels = _pytree.tree_leaves(raw)
    if shapes == [tuple(level.shape) for level in levels]:
        pairs = zip(outputs, levels, strict=True)
        return 'maps of levels', worst(difference(*pair) for pair in pairs)
    predictions = decode(head, raw)
    if len(shapes) == 1:
        fitting = {
            form: difference(outputs[0], rows)
            for form, rows in predictions.rows.items()
            if shapes[0] == tuple(rows.shape)
        }
        if fitting:
            return min(fitting.items(), key=lambda item: item[1])
    if (
        len(shapes) == 2
        and len(shapes[0]) == 3
        and shapes[0] == (*shapes[1], 5)
    ):
        distances = list(_distances(*outputs, predictions, size))
        return f'{len(distances)} detections', worst(distances)
    return f'outputs of a form not known, {shapes}', None


def _distances(
    found: Tensor,
    labels: Tensor,
    predictions: Predictions,
    size: tuple[int, int],
) -> Iterator[float]:
    """Yield how far each detection is from the nearest of the model's.

    The model's are those before suppression. Boxes are compared inside of
    the picture, as a share of its longer side.
    """
    height, width = size
    limits = torch.tensor([width, height, width, height])

    def inside(boxes: Tensor) -> Tensor:
        return boxes.clamp(min=0).minimum(limits) / max(size)

    for index, (rows, classes) in enumerate(zip(found, labels, strict=True)):
        boxes = inside(predictions.boxes[index])
        for row, label in zip(rows, classes, strict=True):
            if row[4] > 0 and label >= 0:
                scores = predictions.scores[index, :, int(label)]
                by_box = (boxes - inside(row[:4])).abs().amax(1)
                by_score = (scores - row[4]).abs()
                yield float(by_box.maximum(by_score).min())


def decode(head: nn.Module, raw: Sequence[Sequence[Tensor]]) -> Predictions:
    """Decode the raw outputs of a head.

    Args:
        head: That of a YOLOX or an RTMDet.
        raw: Scores, boxes and, of YOLOX, objectness, by level.
    """
    sizes = [level.shape[2:] for level in raw[0]]
    generator = head.prior_generator
    priors = torch.cat(
        generator.grid_priors(sizes, device='cpu', with_stride=True)
    )
    flat = [
        torch.cat([level.flatten(2).mT for level in levels], 1)
        for levels in raw
    ]
    scores, boxes = flat[0].sigmoid(), flat[1]
    if type(head).__name__ != 'YOLOXHead':
        return Predictions(
            scores,
            head.bbox_coder.decode(
                priors[:, :2].expand(len(boxes), -1, -1), boxes
            ),
            {},
        )
    places, strides = priors.split(2, dim=1)
    centers = boxes[..., :2] * strides + places
    sides = boxes[..., 2:].exp() * strides
    objectness = flat[2].sigmoid()
    rest = objectness, scores
    return Predictions(
        scores * objectness,
        torch.cat([centers - sides / 2, centers + sides / 2], 2),
        {
            'rows of boxes not decoded, objectness and scores': torch.cat(
                [boxes, *rest], 2
            ),
            'rows of decoded boxes, objectness and scores': torch.cat(
                [centers, sides, *rest], 2
            ),
        },
    )


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a share of the largest value over 1.

    So that of scores is absolute. NaN, where one is not finite.
    """
    largest = expected.abs().max().clamp(min=1)
    return float((found - expected).abs().max() / largest)


def worst(differences: Iterable[float]) -> float | None:
    """Return the largest, NaN if one is NaN, None if there is none."""
    known = torch.tensor(list(differences))
    return float(known.max()) if len(known) else None


def make_pictures(model: nn.Module, shape: Sequence[int]) -> dict[str, Tensor]:
    """Draw noise, and rectangles before a smooth ground, and preprocess them.

    Args:
        model: Its preprocessor is used.
        shape: (batch, 3, height, width).
    """
    random = torch.Generator().manual_seed(0)
    batch, _, height, width = shape

    def draw(low: int, high: int, *size: int) -> Tensor:
        return torch.randint(low, high, size, generator=random)

    noise = draw(0, 256, 3, height, width)
    corners = draw(0, 256, 1, 3, 2, 2).float()
    scene = nn.functional.interpolate(
        corners, (height, width), mode='bilinear'
    )[0]
    for _ in range(12):
        top, left = int(draw(0, height, 1)), int(draw(0, width, 1))
        tall, wide = int(draw(8, height, 1)) // 2, int(draw(8, width, 1)) // 2
        scene[:, top : top + tall, left : left + wide] = draw(0, 256, 3, 1, 1)
    ready = {}
    for name, pixels in dict(noise=noise, scene=scene).items():
        data = dict(inputs=[pixels.to(torch.uint8)] * batch)
        inputs = model.data_preprocessor(data)['inputs']
        # It pads to whole strides; an export has its own size.
        ready[name] = inputs[..., :height, :width]
    return ready
