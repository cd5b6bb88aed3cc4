# SoF-Net that a CPU trains; the numbers are ours. Data:
# tools/make_toy_activitynet.py.
_base_ = [
    '../_base_/runtimes/action.py',
    '../_base_/models/sof_r18-w16.py',
    '../_base_/datasets/toy_activitynet.py',
    '../_base_/schedules/sof_adamw_16e.py',
]
custom_hooks = [*_base_.custom_hooks, *_base_.stage_hooks]
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)
