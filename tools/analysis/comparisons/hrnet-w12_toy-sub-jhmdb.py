# All of Figure 5 in a small HRNet: Skip-Convolutions with learned gates and
# with norm gates, compression, both together, and gates on frames; and, by
# blocks, Table 3. One estimator is trained from scratch; what is learned
# begins with it.
_path = '../../../configs/toy/{}_td-hm_hrnet-w12_toy-sub-jhmdb-96x96.py'
_gate = 'model.conversions.0.gate'
_beta = 'model.efficiency_loss.beta'
_betas = {f'beta {b:g}': {_beta: b} for b in (2e-3, 3e-3, 6e-3)}
_middle = {'beta 0.003': {_beta: 3e-3}}
_shares = {f'macs {m:g}': {'compress': dict(macs=m)} for m in (0.6, 0.35, 0.2)}
_skip = dict(
    config=_path.format('skip-conv-gumbel'), weights='pretrained', train=True
)
_clips = dict(config=_path.format('clips'), weights='pretrained', train=True)
# Factors change what normalisations see: they learn anew.
_svd = dict(_clips, options={'model.backbone.norm_eval': False})
_norm = dict(config=_path.format('skip-conv-output-norm'), weights='dense')
task = 'pose'
seeds = [0, 1, 2]

methods = dict(
    pretrained=dict(
        config='../../../configs/toy/td-hm_hrnet-w12_toy-sub-jhmdb-96x96.py',
        train=True,
        seeds=[0],
    ),
    dense=_clips,
    gumbel=dict(_skip, settings=_betas),
    output_norm=dict(
        _norm,
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (0.2, 0.4, 0.8, 1.1, 2.2)
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
    s_svd=dict(_svd, compress=dict(method='spatial_svd'), settings=_shares),
    w_svd=dict(_svd, compress=dict(method='weight_svd'), settings=_shares),
    l0=dict(
        _clips,
        config=_path.format('l0'),
        settings={
            f'weight {w:g}': {'model.efficiency_loss.weight': w}
            for w in (5e-4, 2e-3, 8e-3)
        },
    ),
    s_svd_gumbel=dict(
        _skip,
        options=_svd['options'],
        compress=dict(method='spatial_svd'),
        settings={
            f'macs {m:g}, beta {b:g}': {'compress': dict(macs=m), _beta: b}
            for m, b in ((0.6, 2e-3), (0.6, 6e-3), (0.35, 6e-3))
        },
    ),
    frame_gates=dict(
        _skip, options={f'{_gate}.gate_input': 'frame'}, settings=_betas
    ),
    output_norm_block_4=dict(
        _norm,
        options={f'{_gate}.block_size': 4},
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (0.5, 0.8, 1.1)
        },
    ),
    gumbel_block_2=dict(
        _skip, options={f'{_gate}.block_size': 2}, settings=_middle
    ),
    gumbel_block_4=dict(
        _skip, options={f'{_gate}.block_size': 4}, settings=_betas
    ),
    gumbel_block_8=dict(
        _skip, options={f'{_gate}.block_size': 8}, settings=_middle
    ),
    # For Table 4, beside gumbel: tools/analysis/reset_interval.py.
    gumbel_clips_of_4=dict(
        _skip,
        options={
            'train_dataloader.batch_size': 8,
            'train_dataloader.dataset.num_frames': 4,
            'train_dataloader.dataset.windows.clips_per_video': 4,
            'custom_hooks.0.num_frames': 4,
        },
        settings=_middle,
        seeds=[0],
    ),
)
