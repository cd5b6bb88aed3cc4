"""The commands that look into recognisers and dynamic convolutions."""

import csv
import json
from pathlib import Path

import cv2
import pytest
import torch

pytest.importorskip('mmaction')

from mmskip.apis import UserError, init_model
from mmskip.toy import make_toy_kinetics

CONFIGS = Path(__file__).parents[3] / 'configs'
CONFIG = """
_base_ = {base!r}
root = {root!r}
data = dict(data_root=root, metainfo=dict(classes=root + '/classes.txt'))
test_dataloader = dict(batch_size=2, dataset=data)
model = dict(backbone=dict(base_channels=8), cls_head=dict(in_channels=64))
"""


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    """A folder with three videos and two configs."""
    pytest.importorskip('mmaction')
    folder = tmp_path_factory.mktemp('dynamic')
    root = make_toy_kinetics(folder / 'toy', train_videos=0, test_videos=3)
    for method, name in (('', 'plain'), ('va-red2_', 'dynamic')):
        file = f'{method}r2plus1d_r18-w16_8x2x1-10e_toy-kinetics.py'
        base = str(CONFIGS / 'toy' / file)
        text = CONFIG.format(base=base, root=str(root))
        (folder / f'{name}.py').write_text(text)
    return folder


@pytest.fixture(scope='module')
def checkpoint(toy):
    """Weights with which gates differ between clips."""
    torch.manual_seed(0)
    model = init_model(toy / 'dynamic.py')
    path = toy / 'dynamic.pth'
    for name, parameter in model.named_parameters():
        if '.gate.' in name:
            torch.nn.init.normal_(parameter)
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


def read(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_redundancy_of_a_plain_model(load_tool, toy, tmp_path, capsys):
    out = tmp_path / 'out'
    tool = load_tool('analysis/redundancy')
    argv = [str(toy / 'plain.py'), '--videos', '1', '--out', str(out)]
    assert tool.main(argv) == 0
    rows = read(out / 'redundancy.csv')
    layers = {row['layer'] for row in rows}
    assert 'backbone.layer1.0.conv1.conv.conv_s' in layers
    (mean,) = [
        row for row in rows if (row['axis'], row['layer']) == ('time', 'mean')
    ]
    assert 0 < float(mean['cc']) <= 1
    assert f'{float(mean["cc"]):.3f}' in capsys.readouterr().out
    assert cv2.imread(str(out / 'redundancy.png')) is not None


def test_routing_of_every_clip(load_tool, toy, checkpoint, tmp_path):
    out = tmp_path / 'out'
    tool = load_tool('analysis/routing')
    groups = toy / 'toy/groups.json'
    argv = [str(toy / 'dynamic.py'), str(checkpoint), '--out', str(out)]
    assert tool.main([*argv, '--groups', str(groups)]) == 0
    clips = read(out / 'clips.csv')
    assert len(clips) == 18
    assert [clip['view'] for clip in clips] == [*'012345'] * 3
    known = json.loads(groups.read_text())
    for clip in clips:
        assert clip['group'] == known[Path(clip['video']).stem]
    extremes = read(out / 'extremes.csv')
    macs = [int(clip['macs']) for clip in clips]
    found = [int(row['macs']) for row in extremes]
    assert (min(found), max(found)) == (min(macs), max(macs))
    assert max(macs) > min(macs)
    names = (toy / 'toy/classes.txt').read_text().split()
    assert {row['name'] for row in extremes} < set(names)
    total = sum(
        float(row['share'])
        for row in read(out / 'costs.csv')
        if row['group'] == 'all'
    )
    assert total == pytest.approx(1)
    shares = read(out / 'shares.csv')
    assert {row['time'] for row in shares} != {'1.0'}
    for name in ('shares', 'costs', 'extremes'):
        assert cv2.imread(str(out / f'{name}.png')) is not None


def test_feature_maps_of_a_layer(load_tool, toy, tmp_path, capsys):
    out = tmp_path / 'out'
    tool = load_tool('analysis/feature_maps')
    layer = 'backbone.layer1.0.conv1.conv.conv_s'
    argv = [str(toy / 'dynamic.py'), '--out', str(out), '--layer', layer]
    options = ['--video', '2', '--time', '1', '--channels', '0']
    assert tool.main([*argv, *options]) == 0
    assert '4 of 8 frames computed' in capsys.readouterr().out
    for row in read(out / 'feature_maps.csv'):
        computed = row['computed'] == 'True'
        assert computed == (int(row['frame']) % 2 == 0)
        assert computed == (float(row['rmse']) < 1e-4)
    assert cv2.imread(str(out / 'feature_maps.png')) is not None
    with pytest.raises(UserError, match='--video 3: expected 0 to 2'):
        tool.main([*argv, '--video', '3'])
    with pytest.raises(UserError, match='layer1'):
        tool.main([*argv[:-1], 'layer1'])


@pytest.mark.parametrize('name', ['routing', 'feature_maps'])
def test_a_plain_model_is_refused(load_tool, toy, tmp_path, name):
    tool = load_tool(f'analysis/{name}')
    argv = [str(toy / 'plain.py'), '--out', str(tmp_path / 'out')]
    with pytest.raises(UserError, match=r'mmskip\.DynamicConversion'):
        tool.main(argv)
