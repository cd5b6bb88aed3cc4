"""ONNX files of detectors: their weights, their layers, their outputs."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmskip.apis import UserError
from mmskip.reading import InputError, reading

from .layers import CONVOLUTIONS, NORMS, Dataflow, Layer

#: Domains of operators that onnx can evaluate.
STANDARD = ('', 'ai.onnx')
#: Height and width where an export takes any.
ANY_SIZE = 320


class Norm(NamedTuple):
    """A batch norm of an export."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    eps: float


class Export:
    """An ONNX file of a detector.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, or is no detector in float32.
        UserError: onnx is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.onnx = import_onnx()
        with reading(path, 'an ONNX export of a detector'):
            self.proto = self.onnx.load(path)
            self._values = dict(self._read_constants())
            image = self._find_image()
            self.image, self.shape = image.name, self._read_shape(image)
            self.layers = self._read_layers()

    def run(self, image: Tensor, heads: Sequence[str]) -> dict[str, Tensor]:
        """Evaluate it on a picture.

        Args:
            image: Of :attr:`shape`.
            heads: Values to return beside its outputs.

        Returns:
            Values by their names. Outputs are not among them if operators
            that are not ONNX's own lead to them.
        """
        from onnx.reference import ReferenceEvaluator

        graph = self.proto.graph
        names = list(heads)
        if all(node.domain in STANDARD for node in graph.node):
            names += [o.name for o in graph.output if o.name not in heads]
        needed, nodes = set(names), []
        for node in reversed(graph.node):
            if needed & set(node.output):
                needed.update(node.input)
                nodes.append(node)
        cut = self.onnx.helper.make_model(
            self.onnx.helper.make_graph(
                nodes[::-1],
                'cut',
                graph.input,
                map(self.onnx.helper.make_empty_tensor_value_info, names),
                graph.initializer,
            ),
            opset_imports=self.proto.opset_import,
            ir_version=self.proto.ir_version,
        )
        advice = "export the model anew, with ONNX's own operators"
        with reading(self.path, 'an export that onnx can evaluate', advice):
            found = ReferenceEvaluator(cut).run(
                None, {self.image: image.numpy()}
            )
        values = map(torch.from_numpy, found)
        return dict(zip(names, values, strict=True))

    def outputs(self) -> list[str]:
        """Return the names of its outputs."""
        return [output.name for output in self.proto.graph.output]

    def _read_constants(self) -> Iterator[tuple[str, Tensor]]:
        to_array = self.onnx.numpy_helper.to_array
        known = {item.name: item for item in self.proto.graph.initializer}
        for node in self.proto.graph.node:
            if (
                node.op_type == 'Constant'
                and node.attribute[0].name == 'value'
            ):
                known[node.output[0]] = node.attribute[0].t
            elif node.op_type == 'Identity' and node.input[0] in known:
                known[node.output[0]] = known[node.input[0]]
        for name, item in known.items():
            if item.data_type == self.onnx.TensorProto.FLOAT:
                yield name, torch.from_numpy(to_array(item).copy())

    def _find_image(self) -> Any:
        graph = self.proto.graph
        constant = {item.name for item in graph.initializer}
        inputs = [item for item in graph.input if item.name not in constant]
        if len(inputs) != 1:
            raise InputError(
                f'{self.path}: expected an export with one input, a picture, '
                f'got {len(inputs)}; export the model so'
            )
        return inputs[0]

    def _read_shape(self, image: Any) -> tuple[int, ...]:
        kind = image.type.tensor_type
        dims = [dim.dim_value for dim in kind.shape.dim]
        if (
            kind.elem_type != self.onnx.TensorProto.FLOAT
            or len(dims) != 4
            or dims[1] not in (0, 3)
        ):
            raise InputError(
                f'{self.path}: expected pictures of float32 as input, of '
                f'shape (batch, 3, height, width), got {image.name} of shape '
                f'{tuple(dims)}; export the model so'
            )
        batch, _, height, width = dims
        return batch or 1, 3, height or ANY_SIZE, width or ANY_SIZE

    def _read_layers(self) -> list[Layer]:
        flow = Dataflow(self.image)
        for node in self.proto.graph.node:
            before = flow.conv_before(node.input[0]) if node.input else None
            if node.op_type in NORMS and before is not None:
                eps = [a.f for a in node.attribute if a.name == 'epsilon']
                weights = map(self._constant, node.input[1:5])
                before.norm = Norm(*weights, *(eps or [1e-5]))
            if node.op_type in CONVOLUTIONS:
                name = node.output[0]
                weight, *bias = map(
                    self._constant, filter(None, node.input[1:])
                )
                conv = weight, bias[0] if bias else None
                layer = Layer('conv', name, tuple(weight.shape), conv=conv)
                flow.add_conv(layer, node.input[0], name)
            else:
                flow.add(node.op_type, node.input, node.output)
        return flow.up_to_heads()

    def _constant(self, name: str) -> Tensor:
        if name not in self._values:
            raise InputError(
                f'{self.path}: expected weights of float32, got {name}, which '
                'is computed or of another kind; export the model in float32, '
                'without quantization'
            )
        return self._values[name]


def import_onnx() -> Any:
    """Import onnx, or say how to install it."""
    try:
        import_module('onnx.reference')
        return import_module('onnx')
    except ImportError as error:
        raise UserError(
            'expected the package onnx, which reads exports, got '
            f"{error}; install it with pip install 'numpy<2' 'mmskip[onnx]'"
        ) from error
