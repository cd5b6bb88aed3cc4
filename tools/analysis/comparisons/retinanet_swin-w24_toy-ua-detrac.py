# Gates and the frame-skip baseline on a small Swin detector; nothing but the
# detector itself is trained.
_path = '../../../configs/toy/{}retinanet_swin-w24_toy-ua-detrac.py'
_skip = dict(config=_path.format('skip-conv-output-norm_'), weights='dense')
_conversion = 'model.conversions.0'


def _thresholds(*values):
    key = f'{_conversion}.gate.threshold'
    return {f'threshold {value:g}': {key: value} for value in values}


seeds = [0]

methods = dict(
    dense=dict(config=_path.format(''), train=True),
    output_norm=dict(**_skip, settings=_thresholds(0.1, 0.15, 0.2)),
    # The paper's memory.
    output_norm_previous=dict(
        **_skip,
        options={f'{_conversion}.memory': 'previous'},
        settings=_thresholds(0.1),
    ),
    # Linear layers stay dense.
    output_norm_convs=dict(
        **_skip,
        options={f'{_conversion}.linear': False},
        settings=_thresholds(0.1),
    ),
    keyframe=dict(
        config=_path.format('keyframe_'),
        weights='dense',
        settings={f'every {n} frames': {'model.interval': n} for n in (2, 3)},
    ),
)
