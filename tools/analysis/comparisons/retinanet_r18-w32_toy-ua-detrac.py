# Gates and the frame-skip baseline on the demo's detector; nothing but the
# detector itself is trained.
_path = '../../../configs/toy/{}retinanet_r18-w32_toy-ua-detrac.py'
_skip = _path.format('skip-conv-output-norm_')
_gate = 'model.conversions.0.gate'
_input_norm = {
    f'{_gate}.type': 'mmskip.InputNormGate',
    f'{_gate}.relative': False,
}
seeds = [0]

methods = dict(
    dense=dict(config=_path.format(''), train=True),
    output_norm=dict(
        config=_skip,
        weights='dense',
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (0.1, 0.2, 0.25, 0.4)
        },
    ),
    input_norm=dict(
        config=_skip,
        weights='dense',
        options=_input_norm,
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (0.03, 0.06, 0.09, 0.12)
        },
    ),
    keyframe=dict(
        config=_path.format('keyframe_'),
        weights='dense',
        settings={
            f'every {n} frames': {'model.interval': n} for n in (2, 3, 4)
        },
    ),
)
