# Gates of Skip-Convolutions in a small HRNet: the question of Figure 5 and,
# by blocks, of Table 3. One estimator is trained from scratch; what is
# learned begins with it.
_path = '../pose/{}_td-hm_hrnet-w12_toy-sub-jhmdb-96x96.py'
_gate = 'model.conversions.0.gate'
_beta = 'model.efficiency_loss.beta'
_betas = (2e-3, 6e-3, 2e-2)
task = 'pose'
seeds = [0, 1, 2]

methods = dict(
    pretrained=dict(
        config='../pose/td-hm_hrnet-w12_toy-sub-jhmdb-96x96.py',
        train=True,
        seeds=[0],
    ),
    dense=dict(config=_path.format('clips'), weights='pretrained', train=True),
    gumbel=dict(
        config=_path.format('skip-conv-gumbel'),
        weights='pretrained',
        train=True,
        settings={f'beta {b:g}': {_beta: b} for b in _betas},
    ),
    gumbel_block_4=dict(
        config=_path.format('skip-conv-gumbel'),
        weights='pretrained',
        train=True,
        options={f'{_gate}.block_size': 4},
        settings={f'beta {b:g}': {_beta: b} for b in _betas},
    ),
    output_norm=dict(
        config=_path.format('skip-conv-output-norm'),
        weights='dense',
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (1 / 16, 1 / 8, 1 / 4)
        },
    ),
    input_norm=dict(
        config=_path.format('skip-conv-output-norm'),
        weights='dense',
        options={
            f'{_gate}.type': 'mmskip.InputNormGate',
            f'{_gate}.relative': False,
        },
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (0.06, 0.12, 0.24)
        },
    ),
)
