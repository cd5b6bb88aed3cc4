# I3D on Inception-V2 (Table 4.7, base model).
_base_ = [
    '../../_base_/runtimes/action.py',
    '../../_base_/models/i3d_inception-v2.py',
    '../../_base_/datasets/moments_in_time_clips.py',
    '../../_base_/schedules/va_red2_60e.py',
]
model = dict(cls_head=dict(num_classes=339))
optim_wrapper = dict(optimizer=dict(lr=1.8, weight_decay=1e-4))
