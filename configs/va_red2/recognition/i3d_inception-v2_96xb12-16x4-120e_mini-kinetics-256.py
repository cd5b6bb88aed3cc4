# I3D on Inception-V2 (Table 4.2, base model).
_base_ = [
    '../../_base_/runtimes/action.py',
    '../../_base_/models/i3d_inception-v2.py',
    '../../_base_/datasets/mini_kinetics_clips.py',
    '../../_base_/schedules/va_red2_120e.py',
]
optim_wrapper = dict(optimizer=dict(lr=1.8, weight_decay=1e-4))
