"""Tools that do nothing but write what a run leaves behind, in no time."""

import json
from pathlib import Path

CONFIG = """
model = dict(gate=dict(threshold=0.1), beta=0.0)
train_cfg = dict(max_epochs=1)
test_evaluator = [dict(type='Other'), dict(type='mmskip.ComputeCost')]
custom_hooks = [dict(type='mmskip.VideoHook')]
load_from = None
"""
SHARED = """
import argparse, json, pathlib, sys
parser = argparse.ArgumentParser()
parser.add_argument('inputs', nargs='+')
for name in ('--out', '--work-dir', '--seed', '--method', '--macs'):
    parser.add_argument(name)
parser.add_argument('--shape', nargs='+')
parser.add_argument('--resume', action='store_true')
parser.add_argument('--no-validate', action='store_true')
parser.add_argument('--cfg-options', nargs='+', default=[])
args = parser.parse_args()
options = dict(option.split('=', 1) for option in args.cfg_options)
tools = pathlib.Path(__file__).parent
with (tools / 'calls.jsonl').open('a') as file:
    call = dict(vars(args), tool=pathlib.Path(__file__).stem, options=options)
    file.write(json.dumps(call) + '\\n')
if 'model.fails' in options:
    print('11/20 12:00:00 - mmengine - INFO - eta: 0:01:02  time: 0.1')
    sys.exit('test: error: this fails')
"""
TRAIN = """
folder = pathlib.Path(args.work_dir)
start = options.get('load_from', 'nothing')
(folder / 'epoch_1.pth').write_text(f'{start} {args.seed} {options}')
(folder / 'last_checkpoint').write_text(str(folder / 'epoch_1.pth'))
"""
# AP falls and cost rises with the threshold; seeds differ by 0.02.
TEST = """
threshold = float(options.get('model.gate.threshold', 0))
ap = 0.7 - threshold + 0.02 * ('seed_1' in args.inputs[1])
pathlib.Path(args.out).write_text(json.dumps({
    'coco/bbox_mAP': ap, 'coco/bbox_mAP_50': ap + 0.2,
    'cost/gmac': 10 - 10 * threshold, 'cost/dense_gmac': 10.0,
    'cost/reduction': 1 / (1 - threshold), 'cost/reference_share': 0.5,
    'cost/gate_share': 0.25,
}))
pathlib.Path(options['test_evaluator.1.out_file']).write_text(json.dumps(
    {'layers': {}}
))
"""
# The config keeps its content, with an option of its own.
COMPRESS = """
folder = pathlib.Path(args.out)
folder.mkdir(parents=True, exist_ok=True)
config = pathlib.Path(args.inputs[0])
path = folder / f'{config.stem}_{args.method}-{args.macs}.py'
path.write_text(config.read_text() + f'macs = {args.macs}\\n')
path.with_suffix('.pth').write_text(f'{args.inputs[1]} {args.macs}')
"""


def write_stub_tools(folder: Path) -> Path:
    """Write ``train.py``, ``test.py`` and ``compress.py`` into a folder."""
    folder.mkdir()
    (folder / 'train.py').write_text(SHARED + TRAIN)
    (folder / 'test.py').write_text(SHARED + TEST)
    (folder / 'compress.py').write_text(SHARED + COMPRESS)
    return folder


def calls(folder: Path) -> list[dict]:
    """How the tools were called, in order."""
    path = folder / 'calls.jsonl'
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]
