# Gates and the frame-skip baseline on a small Swin detector; nothing but the
# detector itself is trained.
_path = '../../../configs/toy/{}retinanet_swin-w24_toy-ua-detrac.py'
seeds = [0]

methods = dict(
    dense=dict(config=_path.format(''), train=True),
    output_norm=dict(
        config=_path.format('skip-conv-output-norm_'),
        weights='dense',
        settings={
            f'threshold {t:g}': {'model.conversions.0.gate.threshold': t}
            for t in (0.1, 0.15, 0.2)
        },
    ),
    keyframe=dict(
        config=_path.format('keyframe_'),
        weights='dense',
        settings={f'every {n} frames': {'model.interval': n} for n in (2, 3)},
    ),
)
