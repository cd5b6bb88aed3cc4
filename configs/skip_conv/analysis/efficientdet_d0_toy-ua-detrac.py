# Figure 7 of Skip-Conv and the baselines of Figure 4, on EfficientDet-D0 and
# the toy data. Betas, thresholds and intervals are ours.
_name = 'efficientdet_d0_toy-ua-detrac.py'
_norm = f'../detection/skip-conv-output-norm_{_name}'
_gate = 'model.conversions.0.gate'
_betas = {
    f'beta {b:g}': {'model.efficiency_loss.beta': b} for b in (0.05, 0.15, 0.5)
}
_intervals = {f'every {n} frames': {'model.interval': n} for n in (2, 3, 4)}
seeds = [0, 1, 2]

methods = dict(
    dense=dict(config=f'../detection/{_name}', train=True, seeds=[0]),
    # The schedule of the gates without gates.
    clips=dict(
        config=f'../detection/clips_{_name}', weights='dense', train=True
    ),
    gumbel=dict(
        config=f'../detection/skip-conv-gumbel_{_name}',
        weights='dense',
        train=True,
        settings=_betas,
    ),
    gumbel_frame=dict(
        config=f'../detection/frame-gates_{_name}',
        weights='dense',
        train=True,
        settings=_betas,
    ),
    output_norm=dict(
        config=_norm,
        weights='dense',
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (0.0625, 0.125, 0.25, 0.5)
        },
    ),
    input_norm=dict(
        config=_norm,
        weights='dense',
        options={f'{_gate}.type': 'mmskip.InputNormGate'},
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (0.0625, 0.125, 0.25, 0.5)
        },
    ),
    keyframe=dict(
        config=f'../detection/keyframe_{_name}',
        weights='dense',
        settings=_intervals,
    ),
    feature_flow=dict(
        config=f'../detection/feature-flow_{_name}',
        weights='dense',
        settings=_intervals,
    ),
)
