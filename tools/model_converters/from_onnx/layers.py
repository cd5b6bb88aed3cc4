"""The layers of a detector, of whatever graph, and how they connect."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmskip.apis import UserError
from mmskip.apis.models import some

#: Names of operators, of ONNX and of torch.export.
CONVOLUTIONS = ('Conv', 'aten.conv2d.default', 'aten.convolution.default')
NORMS = ('BatchNormalization', 'aten.batch_norm.default')
CONCATENATIONS = ('Concat', 'aten.cat.default')
#: They tell sizes, not what is in a picture.
SIZES = ('Shape', 'Size')
#: How messages end, where two models are not the same.
ANOTHER = 'is it the export of another config?'


@dataclass
class Layer:
    """A convolution, or a place where several values meet.

    Attributes:
        kind: 'input', 'conv', 'concat' (its order counts) or 'join'.
        name: As messages call it; of an export's convolution, its output.
        shape: Of a convolution's kernel, ``(out, in / groups, h, w)``.
        sources: Indices of the layers that it reads.
        conv: A model's ``nn.Conv2d``, or an export's weight and bias.
        norm: A model's batch norm behind it, or an export's
            ``Norm``, or None.
        is_head: No convolution follows.
    """

    kind: str
    name: str
    shape: tuple[int, ...] = ()
    sources: tuple[int, ...] = ()
    conv: Any = None
    norm: Any = None
    is_head: bool = False


class Dataflow:
    """Convolutions and how they connect, without what is between them.

    An operator that reads one layer only, however often and beside whatever
    constants, is left out: activations, poolings, resizing, slices. So
    graphs of one model are equal, whoever wrote them.

    Args:
        image: The value that is the model's input.
    """

    def __init__(self, image: Hashable) -> None:
        self.layers = [Layer('input', 'input')]
        self._layer_of: dict[Hashable, int] = {image: 0}
        self._conv_of: dict[Hashable, Layer] = {}

    def add(
        self, kind: str, reads: Iterable[Hashable], writes: Iterable[Hashable]
    ) -> None:
        """Add an operator that is no convolution.

        Args:
            kind: Its name.
            reads: Values that it reads, in order.
            writes: Values that it computes.
        """
        sources = () if kind in SIZES else self._sources(reads)
        if not sources:
            return
        index = sources[0]
        if len(set(sources)) > 1:
            index = len(self.layers)
            joined = 'concat' if kind in CONCATENATIONS else 'join'
            self.layers.append(Layer(joined, kind, (), sources))
        self._layer_of.update(dict.fromkeys(writes, index))

    def add_conv(self, layer: Layer, read: Hashable, write: Hashable) -> None:
        """Add a convolution, whose sources are found here."""
        layer.sources = self._sources([read])
        self._layer_of[write] = len(self.layers)
        self._conv_of[write] = layer
        self.layers.append(layer)

    def conv_before(self, value: Hashable) -> Layer | None:
        """Return the convolution that computes a value, if one does."""
        return self._conv_of.get(value)

    def up_to_heads(self) -> list[Layer]:
        """Return the layers that lead to a convolution, convolutions too.

        Exports decode and suppress boxes in various ways; that is left out.
        """
        leads = [layer.kind == 'conv' for layer in self.layers]
        for index in reversed(range(len(leads))):
            if leads[index]:
                for source in self.layers[index].sources:
                    leads[source] = True
        kept = [index for index, lead in enumerate(leads) if lead]
        read = {source for i in kept for source in self.layers[i].sources}
        new = {index: number for number, index in enumerate(kept)}
        for index in kept:
            layer = self.layers[index]
            layer.sources = tuple(new[source] for source in layer.sources)
            layer.is_head = index not in read
        return [self.layers[index] for index in kept]

    def _sources(self, reads: Iterable[Hashable]) -> tuple[int, ...]:
        found = (self._layer_of.get(value) for value in reads)
        return tuple(index for index in found if index is not None)


def match(
    model: Sequence[Layer], export: Sequence[Layer], path: Path
) -> list[tuple[Layer, Layer]]:
    """Pair the convolutions of two graphs by shape and connections.

    Layers of both graphs are coloured until no round tells more of them
    apart (colour refinement, after Weisfeiler and Leman): by their shapes
    first, then by the colours of what they read and of what reads them, and
    in which place of a concatenation. Layers of one graph that stay alike
    could change places without a change of the graph; they are taken in
    their order of execution, and the outputs tell if that was right.

    Args:
        model: Layers of the model.
        export: Layers of the export.
        path: Its file, for messages.

    Returns:
        Pairs of the model's and the export's, in the model's order.

    Raises:
        UserError: The graphs are of two models.
    """
    _compare_shapes(model, export, path)
    colours = refine([model, export])
    waiting = defaultdict(list)
    for layer, colour in zip(export, colours[1], strict=True):
        if layer.kind == 'conv':
            waiting[colour].append(layer)
    pairs, without = [], []
    for layer, colour in zip(model, colours[0], strict=True):
        if layer.kind == 'conv' and waiting[colour]:
            pairs.append((layer, waiting[colour].pop(0)))
        elif layer.kind == 'conv':
            without.append(layer.name)
    if without:
        raise UserError(
            f'{path}: expected convolutions that connect as those of '
            'the model do, got the same shapes, but none in the place of '
            f'{len(without)} ({some(without)}): {ANOTHER}'
        )
    return pairs


def refine(graphs: Sequence[Sequence[Layer]]) -> list[list[int]]:
    """Colour the layers of graphs until no round tells more of them apart.

    Returns:
        By graph, by layer: its colour. Equal ones are alike in all graphs.
    """
    marks = [[(layer.kind, layer.shape) for layer in g] for g in graphs]
    count = 0
    while True:
        numbers: dict[Any, int] = {}
        colours = [
            [numbers.setdefault(mark, len(numbers)) for mark in of_graph]
            for of_graph in marks
        ]
        if len(numbers) == count:
            return colours
        count = len(numbers)
        marks = [
            list(_surroundings(graph, of_graph))
            for graph, of_graph in zip(graphs, colours, strict=True)
        ]


def _surroundings(
    graph: Sequence[Layer], colours: Sequence[int]
) -> Iterator[tuple]:
    """Yield of each layer the colours of itself and of its neighbours."""
    readers = defaultdict(list)
    for layer, colour in zip(graph, colours, strict=True):
        for place, source in enumerate(layer.sources):
            if layer.kind != 'concat':
                place = 0
            readers[source].append((colour, place))
    for index, layer in enumerate(graph):
        sources = [colours[source] for source in layer.sources]
        if layer.kind != 'concat':
            sources.sort()
        yield colours[index], tuple(sources), tuple(sorted(readers[index]))


def _compare_shapes(
    model: Sequence[Layer], export: Sequence[Layer], path: Path
) -> None:
    """Refuse kernels that only one of two graphs has."""
    graphs = dict(model=model, export=export)
    convs = {
        name: [layer for layer in graph if layer.kind == 'conv']
        for name, graph in graphs.items()
    }
    counts = {
        name: Counter(layer.shape for layer in layers)
        for name, layers in convs.items()
    }
    texts = []
    for name, other in (('model', 'export'), ('export', 'model')):
        beyond = counts[name] - counts[other]
        if beyond:
            first = next(c for c in convs[name] if c.shape in beyond)
            texts.append(
                f'of {beyond.total()} in the {name} the {other} lacks the '
                f'shape, first {first.shape} at {first.name}'
            )
    if texts:
        raise UserError(
            f'{path}: expected the {len(convs["model"])} convolutions '
            f'of the model, got {len(convs["export"])}: {"; ".join(texts)}; '
            f'{ANOTHER}'
        )
