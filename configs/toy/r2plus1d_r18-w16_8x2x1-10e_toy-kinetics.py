# R(2+1)D-18 that a CPU trains; the numbers are ours. Data:
# tools/make_toy_kinetics.py.
_base_ = [
    '../_base_/runtimes/action.py',
    '../_base_/models/r2plus1d_r18-w16.py',
    '../_base_/datasets/toy_kinetics.py',
    '../_base_/schedules/dynamic_adamw_10e.py',
    '../_base_/conversions/dynamic.py',
]
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)
