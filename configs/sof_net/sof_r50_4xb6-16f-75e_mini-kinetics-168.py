# SoF-Net as in Table 4.1; top-1 accuracy counts.
_base_ = [
    '../_base_/runtimes/action.py',
    '../_base_/models/sof_r50.py',
    '../_base_/datasets/mini_kinetics.py',
    '../_base_/schedules/sof_sgd_75e.py',
]
custom_hooks = [*_base_.custom_hooks, *_base_.stage_hooks]
