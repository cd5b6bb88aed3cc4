# Localisation that a CPU trains in some ten minutes. Data:
# tools/make_toy_jhmdb.py.
_base_ = [
    '../_base_/runtimes/action.py',
    '../_base_/models/yowo_r2plus1d_r18-w12.py',
    '../_base_/datasets/toy_jhmdb.py',
    '../_base_/schedules/adamw_12e.py',
]
optim_wrapper = dict(clip_grad=dict(max_norm=20))
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)
