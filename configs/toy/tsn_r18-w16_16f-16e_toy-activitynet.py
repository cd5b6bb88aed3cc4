# TSN on all frames, trained as SoF-Net is.
_base_ = [
    '../_base_/runtimes/action.py',
    '../_base_/models/tsn_r18-w16.py',
    '../_base_/datasets/toy_activitynet.py',
    '../_base_/schedules/sof_adamw_16e.py',
]
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)
