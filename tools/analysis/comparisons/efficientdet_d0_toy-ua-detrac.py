# The three gates, gates on frames, interleaved detection and Deep Feature
# Flow on EfficientDet-D0: the questions of Figures 4 and 7 of the paper.
# One detector is trained from scratch; what is learned begins with it.
_path = '../../../configs/toy/{}_toy-ua-detrac.py'
_norm = _path.format('skip-conv-output-norm_efficientdet_d0')
_gate = 'model.conversions.0.gate'
_beta = 'model.efficiency_loss.beta'
_every = dict(
    config=_path.format('efficientdet_d0'),
    weights='dense',
    settings={f'every {n} frames': {'model.interval': n} for n in (2, 4)},
)
seeds = [0, 1, 2]

methods = dict(
    pretrained=dict(
        config=_path.format('efficientdet_d0'), train=True, seeds=[0]
    ),
    dense=dict(
        config=_path.format('clips_efficientdet_d0'),
        weights='pretrained',
        train=True,
    ),
    gumbel=dict(
        config=_path.format('skip-conv-gumbel_efficientdet_d0'),
        weights='pretrained',
        train=True,
        settings={f'beta {b:g}': {_beta: b} for b in (0.2, 0.5)},
    ),
    frame_gates=dict(
        config=_path.format('skip-conv-gumbel_efficientdet_d0'),
        weights='pretrained',
        train=True,
        options={f'{_gate}.gate_input': 'frame'},
        settings={'beta 0.2': {_beta: 0.2}},
    ),
    output_norm=dict(
        config=_norm,
        weights='dense',
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t} for t in (0.4, 0.8)
        },
    ),
    input_norm=dict(
        config=_norm,
        weights='dense',
        options={
            f'{_gate}.type': 'mmskip.InputNormGate',
            f'{_gate}.relative': False,
        },
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t} for t in (0.06, 0.12)
        },
    ),
    keyframe=dict(
        _every,
        options={
            'model.type': 'mmskip.KeyframeModel',
            'model.arch': 'RetinaNet',
        },
    ),
    feature_flow=dict(
        _every,
        options={
            'model.type': 'mmskip.FeatureFlowModel',
            'model.arch': 'RetinaNet',
        },
    ),
)
