# SoF-Net, its ablation (Table 4.4 of the thesis) and baselines on toy data.
# Everything is trained from scratch on the same schedule.
_path = '../../../configs/toy/{}_r18-w16_16f-16e_toy-activitynet.py'
_all_frames = dict(config=_path.format('tsn'), train=True)
_frames = dict(config=_path.format('tsn'), weights='tsn')
_sof = dict(config=_path.format('sof'), train=True)
_baseline = {'model.type': 'mmskip.SoFRecognizer'}
_no_exit = {'model.early_exit': None}
task = 'recognition'
seeds = [0, 1, 2]

methods = dict(
    tsn=_all_frames,
    sof_no_exit=dict(_sof, options=_no_exit),
    sof=dict(config=_path.format('sof'), weights='sof_no_exit'),
    every_kth=dict(
        _frames,
        options={
            **_baseline,
            'model.frame_choice.type': 'mmskip.EveryKthFrame',
        },
        settings={f'k {k}': {'model.frame_choice.k': k} for k in (2, 3, 4)},
    ),
    random=dict(
        _frames,
        options={
            **_baseline,
            'model.frame_choice.type': 'mmskip.RandomFrames',
        },
        settings={
            f'{n} of 16': {'model.frame_choice.num_frames': n}
            for n in (4, 6, 8, 10)
        },
    ),
    tsn_exit=dict(
        _frames,
        options={**_baseline, 'model.early_exit.t_min': 3},
        settings={
            f'rho {rho:g}': {'model.early_exit.rho': rho}
            for rho in (0.7, 0.9, 0.99)
        },
    ),
    policy=dict(
        _sof,
        options={
            **_no_exit,
            'model.policy.temporal': False,
            'model.guidance_loss': None,
        },
    ),
    policy_temporal=dict(
        _sof, options={**_no_exit, 'model.guidance_loss': None}
    ),
    policy_guidance=dict(
        _sof, options={**_no_exit, 'model.policy.temporal': False}
    ),
)
