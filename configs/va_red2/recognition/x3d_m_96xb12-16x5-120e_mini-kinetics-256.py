# X3D-M (Table 4.2, base model).
_base_ = [
    '../../_base_/runtimes/action.py',
    '../../_base_/models/x3d_m.py',
    '../../_base_/datasets/mini_kinetics_clips_16x5.py',
    '../../_base_/schedules/va_red2_120e.py',
]
optim_wrapper = dict(optimizer=dict(lr=1.8, weight_decay=5e-5))
