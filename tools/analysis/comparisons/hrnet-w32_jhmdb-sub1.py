# Figure 5, and by blocks Table 3, in HRNet-w32 on split 1 of sub-JHMDB. Betas,
# weights and thresholds are ours, from the toy; nobody has tuned them.
_configs = '../../../configs/'
_clip = '{}_td-hm_hrnet-w32_8xb2x8-100e_jhmdb-sub1-256x256.py'
_path = f'{_configs}skip_conv/pose/{_clip}'
_frames = (
    f'{_configs}skip_conv/pose/'
    '{}td-hm_hrnet-w32_8xb16-100e_jhmdb-sub1-256x256.py'
)
_gate = 'model.conversions.0.gate'
_beta = 'model.efficiency_loss.beta'
_betas = {f'beta {b:g}': {_beta: b} for b in (2e-3, 6e-3, 2e-2)}
_shares = {f'macs {m:g}': {'compress': dict(macs=m)} for m in (0.5, 0.3, 0.2)}
_trained = dict(weights='pretrained', train=True)
_clips = dict(_trained, config=_path.format('clips'))
_skip = dict(_trained, config=_path.format('skip-conv-gumbel'))
_norm = dict(config=_frames.format('skip-conv-output-norm_'), weights='dense')
task = 'pose'
seeds = [0]

methods = dict(
    pretrained=dict(config=_frames.format(''), train=True),
    dense=_clips,
    gumbel=dict(_skip, settings=_betas),
    output_norm=dict(
        _norm,
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (0.2, 0.4, 0.8)
        },
    ),
    input_norm=dict(
        _norm,
        options={
            f'{_gate}.type': 'mmskip.InputNormGate',
            f'{_gate}.relative': False,
        },
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (0.06, 0.12, 0.24)
        },
    ),
    s_svd=dict(_clips, compress=dict(method='spatial_svd'), settings=_shares),
    w_svd=dict(_clips, compress=dict(method='weight_svd'), settings=_shares),
    l0=dict(
        _trained,
        config=f'{_configs}compression/{_clip}'.format('l0'),
        settings={
            f'weight {w:g}': {'model.efficiency_loss.weight': w}
            for w in (5e-4, 2e-3, 8e-3)
        },
    ),
    s_svd_gumbel=dict(
        _skip,
        compress=dict(method='spatial_svd'),
        settings={
            f'macs {m:g}, beta {b:g}': {'compress': dict(macs=m), _beta: b}
            for m, b in ((0.5, 2e-3), (0.5, 6e-3), (0.3, 6e-3))
        },
    ),
    frame_gates=dict(
        _skip, options={f'{_gate}.gate_input': 'frame'}, settings=_betas
    ),
    **{
        f'gumbel_block_{size}': dict(
            _skip,
            options={f'{_gate}.block_size': size},
            settings={'beta 0.006': {_beta: 6e-3}},
        )
        for size in (2, 4, 8)
    },
)
