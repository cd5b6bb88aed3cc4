# SoF-Net, its ablation (Table 4.4 of the thesis) and baselines on toy data.
# Everything is trained from scratch on the same schedule.
_path = '../{}_r18-w16_16f-16e_toy-activitynet.py'
_tsn = dict(weights='tsn', config=_path.format('tsn-every-2nd'))
task = 'recognition'
seeds = [0, 1, 2]

methods = dict(
    tsn=dict(config=_path.format('tsn'), train=True),
    sof_no_exit=dict(config=_path.format('sof-no-exit'), train=True),
    sof=dict(config=_path.format('sof'), weights='sof_no_exit'),
    every_kth=dict(
        _tsn,
        settings={f'k {k}': {'model.frame_choice.k': k} for k in (2, 3, 4)},
    ),
    random=dict(
        config=_path.format('tsn-random'),
        weights='tsn',
        settings={
            f'{n} of 16': {'model.frame_choice.num_frames': n}
            for n in (4, 6, 8, 10)
        },
    ),
    tsn_exit=dict(
        config=_path.format('tsn-exit'),
        weights='tsn',
        settings={
            f'rho {rho:g}': {'model.early_exit.rho': rho}
            for rho in (0.7, 0.9, 0.99)
        },
    ),
    policy=dict(config=_path.format('sof-policy'), train=True),
    policy_temporal=dict(
        config=_path.format('sof-policy-temporal'), train=True
    ),
    policy_guidance=dict(
        config=_path.format('sof-policy-guidance'), train=True
    ),
)
