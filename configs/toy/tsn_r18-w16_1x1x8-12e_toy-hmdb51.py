# A small TSN on the toy HMDB51, dense, from scratch.
_base_ = [
    '../_base_/runtimes/action.py',
    '../_base_/models/tsn_r18-w16.py',
    '../_base_/datasets/toy_hmdb51.py',
    '../_base_/schedules/adamw_12e.py',
]
randomness = dict(seed=0)
custom_hooks = _base_.hooks
