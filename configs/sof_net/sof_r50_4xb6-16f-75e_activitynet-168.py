# SoF-Net as in Tables 4.1 and 4.3. README.md has the options of the ablation
# and of other sizes (Tables 4.4 and 4.5).
_base_ = [
    '../_base_/runtimes/action.py',
    '../_base_/models/sof_r50.py',
    '../_base_/datasets/activitynet.py',
    '../_base_/schedules/sof_sgd_75e.py',
]
custom_hooks = [*_base_.custom_hooks, *_base_.stage_hooks]
