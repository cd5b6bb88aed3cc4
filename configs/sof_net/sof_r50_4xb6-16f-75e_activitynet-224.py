# As in Table 4.5.
_base_ = [
    '../_base_/runtimes/action.py',
    '../_base_/models/sof_r50.py',
    '../_base_/datasets/activitynet_224.py',
    '../_base_/schedules/sof_sgd_75e.py',
]
custom_hooks = [*_base_.custom_hooks, *_base_.stage_hooks]
