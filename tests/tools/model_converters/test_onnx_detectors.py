"""Exports of tiny models with random weights, taken back."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

pytest.importorskip('mmdet')
pytest.importorskip('onnx')

import onnx
from mmdet.models.layers import CSPLayer

from mmskip.apis import init_model
from mmskip.apis.errors import EXIT_MISTAKE, EXIT_OK, run_tool

TOOLS = Path(__file__).resolve().parents[3] / 'tools'
SIZE = 64
YOLOX = """
_base_ = 'mmdet::yolox/yolox_nano_8xb8-300e_coco.py'
model = dict(
    backbone=dict(deepen_factor=0.1, widen_factor={width}, init_cfg=None),
    neck=dict(in_channels={channels}, out_channels={channels[0]}),
    bbox_head=dict(num_classes={classes}, in_channels={channels[0]},
                   feat_channels={channels[0]}),
)
"""
RTMDET = """
_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
model = dict(
    backbone=dict(deepen_factor=0.1, widen_factor={width}, init_cfg=None),
    neck=dict(in_channels={channels}, out_channels={channels[0]}),
    bbox_head=dict(num_classes={classes}, in_channels={channels[0]},
                   feat_channels={channels[0]}),
)
"""
CONFIGS = dict(yolox=YOLOX, rtmdet=RTMDET)


@pytest.fixture
def tool(load_tool, monkeypatch):
    folder = TOOLS / 'model_converters'
    monkeypatch.setattr(sys, 'path', [str(folder), *sys.path])
    return load_tool('model_converters/onnx_detectors')


def write_config(kind, width=0.125, classes=3):
    channels = [round(width * c) for c in (256, 512, 1024)]
    path = Path(f'{kind}_{width}_{classes}.py')
    path.write_text(
        CONFIGS[kind].format(width=width, channels=channels, classes=classes)
    )
    return path


def draw(count):
    """Pictures of large spots, which differ from one another."""
    spots = torch.rand(count, 3, 4, 4) * 255
    return nn.functional.interpolate(spots, (SIZE, SIZE), mode='bilinear')


def make_model(config):
    """A model whose weights and statistics all differ from one another.

    Statistics are those of a batch, so that no layer is nearly constant.
    """
    torch.manual_seed(0)
    model = init_model(config)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = 1.0
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity='linear')
            if module.bias is not None:  # Of a head: it is exponentiated.
                nn.init.normal_(module.weight, std=0.001)
                nn.init.normal_(module.bias, std=0.5)
    with torch.no_grad():
        model.train()(draw(8), mode='tensor')
    return model.eval()


class Raw(nn.Module):
    """The maps of all levels."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        return self.model(image, mode='tensor')


class Rows(Raw):
    """The releases of YOLOX: one row for each place."""

    decoded = False

    def forward(self, image):
        maps = []
        for scores, boxes, objectness in zip(
            *super().forward(image), strict=True
        ):
            level = boxes, objectness.sigmoid(), scores.sigmoid()
            maps.append(torch.cat(level, 1).flatten(2))
        rows = torch.cat(maps, 2).permute(0, 2, 1)
        if not self.decoded:
            return rows
        sizes = [(SIZE // s, SIZE // s) for s in (8, 16, 32)]
        generator = self.model.bbox_head.prior_generator
        priors = torch.cat(generator.grid_priors(sizes, device='cpu'))
        strides = torch.cat(
            [torch.full((h * w, 1), SIZE // h) for h, w in sizes]
        )
        centers = rows[..., :2] * strides + priors
        sides = rows[..., 2:4].exp() * strides
        return torch.cat([centers, sides, rows[..., 4:]], 2)


class DecodedRows(Rows):
    decoded = True


class Detections(Raw):
    """The ten best boxes, as an export with suppression gives them."""

    def forward(self, image):
        scores, boxes = super().forward(image)
        sizes = [(SIZE // s, SIZE // s) for s in (8, 16, 32)]
        priors = torch.cat(
            self.model.bbox_head.prior_generator.grid_priors(
                sizes, device='cpu'
            )
        )
        scores = torch.cat([s.flatten(2) for s in scores], 2).sigmoid()
        boxes = torch.cat([b.flatten(2) for b in boxes], 2).permute(0, 2, 1)
        corners = torch.cat(
            [priors - boxes[..., :2], priors + boxes[..., 2:]], 2
        )
        best, labels = scores.max(1)
        best, places = best.topk(10)
        found = corners[:, places[0]]
        return torch.cat([found, best[..., None]], 2), labels[:, places[0]]


def export(module, path='export.onnx', folded=True, size=SIZE, **options):
    modes = torch.onnx.TrainingMode
    torch.onnx.export(
        module.eval(),
        (torch.zeros(1, 3, size, size),),
        path,
        dynamo=False,
        training=modes.EVAL if folded else modes.PRESERVE,
        do_constant_folding=folded,
        **options,
    )
    return Path(path)


def raw_outputs(model):
    torch.manual_seed(1)
    with torch.inference_mode():
        maps = model(draw(1), mode='tensor')
    return [level for levels in maps for level in levels]


def check_same(config, model, checkpoint):
    expected, found = (
        raw_outputs(model),
        raw_outputs(init_model(config, checkpoint)),
    )
    for one, other in zip(expected, found, strict=True):
        assert one.std() > 0.005
        torch.testing.assert_close(
            one, other, atol=1e-4 * max(1, float(one.abs().max())), rtol=0
        )


def refuse(tool, capsys, *arguments):
    argv = [str(argument) for argument in arguments]
    assert run_tool(tool.main, 'tool', argv) == EXIT_MISTAKE
    assert not Path('out.pth').exists()
    assert not list(Path().glob('*.unfinished'))
    return capsys.readouterr().err


def main_branch_first(self, x):
    """The forward of a ``CSPLayer`` as the releases of YOLOX execute it."""
    main = self.blocks(self.main_conv(x))
    return self.final_conv(torch.cat((main, self.short_conv(x)), dim=1))


@pytest.mark.parametrize(
    ('kind', 'outputs', 'form'),
    [
        ('yolox', Rows, 'rows of boxes not decoded'),
        ('yolox', DecodedRows, 'rows of decoded boxes'),
        ('rtmdet', Detections, '10 detections'),
    ],
)
def test_an_export_with_folded_norms_gives_the_model_back(
    tool, capsys, monkeypatch, kind, outputs, form
):
    # One class: scores and objectness have kernels of one shape. And both
    # branches of a block have, whichever is executed first.
    config = write_config(kind, classes=1)
    model = make_model(config)
    with monkeypatch.context() as patch:
        if kind == 'yolox':
            patch.setattr(CSPLayer, 'forward', main_branch_first)
        path = export(outputs(model))

    assert tool.main([str(path), str(config), 'out.pth']) == EXIT_OK

    check_same(config, model, 'out.pth')
    printed = capsys.readouterr().out
    assert printed.count('largest differences') == 2
    assert printed.count(form) == 2
    norms = sum(isinstance(m, _BatchNorm) for m in model.modules())
    assert f'{norms} with a folded batch norm' in printed
    assert f'mmskip stream {config} out.pth VIDEO' in printed


@pytest.mark.parametrize('kind', ['yolox', 'rtmdet'])
def test_norms_that_are_not_folded_are_copied(tool, capsys, kind):
    config = write_config(kind)
    model = make_model(config)
    path = export(Raw(model), folded=False)

    assert tool.main([str(path), str(config), 'out.pth']) == EXIT_OK

    saved = torch.load('out.pth')['state_dict']
    for key, value in model.state_dict().items():
        if not key.endswith('num_batches_tracked'):
            assert torch.equal(saved[key], value), key
    printed = capsys.readouterr().out
    assert printed.count('maps of levels') == 2
    assert ' 0 with a folded batch norm' in printed


@pytest.fixture(scope='module')
def an_export(tmp_path_factory):
    """A config of a YOLOX and the bytes of its export."""
    folder = tmp_path_factory.mktemp('export')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = write_config('yolox').resolve()
        path = export(Raw(make_model(config)))
        return config, path.read_bytes()


def test_a_wrong_width_is_told(tool, an_export, capsys):
    Path('export.onnx').write_bytes(an_export[1])
    config = write_config('yolox', width=0.25)

    told = refuse(tool, capsys, 'export.onnx', config, 'out.pth')

    assert 'first (16, 12, 3, 3) at backbone.stem.conv.conv' in told
    assert 'is it the export of another config?' in told


def test_another_architecture_is_told(tool, an_export, capsys):
    Path('export.onnx').write_bytes(an_export[1])

    told = refuse(
        tool, capsys, 'export.onnx', write_config('rtmdet'), 'out.pth'
    )

    assert 'expected the' in told
    assert 'convolutions of the model' in told


def test_the_same_shapes_connected_otherwise_are_told(tool, an_export, capsys):
    config, content = an_export
    proto = onnx.load_from_string(content)
    # The second concatenation of the backbone, of a block and its shortcut.
    joins = [
        node
        for node in proto.graph.node
        if node.op_type == 'Concat' and len(node.input) == 2
    ]
    joins[1].input[:] = reversed(joins[1].input)
    onnx.save(proto, 'export.onnx')

    told = refuse(tool, capsys, 'export.onnx', config, 'out.pth')

    assert 'expected convolutions that connect as those of the model' in told


def test_other_outputs_are_refused(tool, an_export, capsys):
    config, content = an_export
    proto = onnx.load_from_string(content)
    for node in proto.graph.node:
        if node.op_type == 'Sigmoid':
            node.op_type = 'Tanh'
    onnx.save(proto, 'export.onnx')

    told = refuse(tool, capsys, 'export.onnx', config, 'out.pth')

    assert 'expected outputs that differ from those of the model' in told
    assert 'nothing was written' in told


def test_weights_that_are_not_finite_are_refused(tool, an_export, capsys):
    config, content = an_export
    proto = onnx.load_from_string(content)
    weight = next(
        item for item in proto.graph.initializer if len(item.dims) == 4
    )
    values = onnx.numpy_helper.to_array(weight) * float('nan')
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(proto, 'export.onnx')

    assert 'not finite' in refuse(
        tool, capsys, 'export.onnx', config, 'out.pth'
    )


@pytest.mark.parametrize('content', [b'', b'no export', 'cut'])
def test_a_damaged_file_is_told(tool, an_export, capsys, content):
    config, whole = an_export
    if content == 'cut':
        content = whole[: len(whole) // 2]
    Path('export.onnx').write_bytes(content)

    told = refuse(tool, capsys, 'export.onnx', config, 'out.pth')

    assert 'export.onnx: expected an' in told


def test_half_precision_is_told(tool, an_export, capsys):
    config, content = an_export
    proto = onnx.load_from_string(content)
    for item in proto.graph.initializer:
        half = onnx.numpy_helper.to_array(item).astype('float16')
        item.CopyFrom(onnx.numpy_helper.from_array(half, item.name))
    onnx.save(proto, 'export.onnx')

    assert 'expected weights of float32' in refuse(
        tool, capsys, 'export.onnx', config, 'out.pth'
    )


def test_without_onnx_it_is_told_what_to_install(
    tool, an_export, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, 'onnx', None)
    monkeypatch.setitem(sys.modules, 'onnx.reference', None)

    told = refuse(tool, capsys, 'export.onnx', an_export[0], 'out.pth')

    assert "pip install 'numpy<2' 'mmskip[onnx]'" in told


def test_a_model_of_another_kind_is_told(tool, an_export, capsys):
    Path('export.onnx').write_bytes(an_export[1])
    config = Path('retinanet.py')
    config.write_text(
        "_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'"
    )

    told = refuse(tool, capsys, 'export.onnx', config, 'out.pth')

    assert 'expected a model whose head is one of YOLOXHead' in told


def test_nothing_is_left_of_a_file_that_cannot_be_written(
    tool, an_export, capsys
):
    config, content = an_export
    Path('export.onnx').write_bytes(content)
    Path('folder').mkdir()

    told = refuse(tool, capsys, 'export.onnx', config, 'folder')

    assert 'cannot write folder' in told
    assert not list(Path('folder').iterdir())


def test_what_leads_to_operators_of_others_is_evaluated(tool, an_export):
    proto = onnx.load_from_string(an_export[1])
    graph = proto.graph
    head = graph.output[0].name
    dets = onnx.helper.make_empty_tensor_value_info('dets')
    nms = onnx.helper.make_node(
        'TRTBatchedNMS', [head], ['dets'], domain='mmdeploy'
    )
    graph.node.append(nms)
    graph.output.append(dets)
    onnx.save(proto, 'export.onnx')

    found = tool.Export(Path('export.onnx')).run(
        torch.zeros(1, 3, SIZE, SIZE), [head]
    )

    assert found.keys() == {head}


def test_an_export_of_any_size_is_run_at_one_of_them(tool, an_export):
    proto = onnx.load_from_string(an_export[1])
    shape = proto.graph.input[0].type.tensor_type.shape
    for index in (0, 2, 3):
        shape.dim[index].dim_param = 'any'
    onnx.save(proto, 'export.onnx')

    assert tool.Export(Path('export.onnx')).shape == (1, 3, 320, 320)
