# X3D-M (Table 4.5, base model).
_base_ = [
    '../../_base_/runtimes/action.py',
    '../../_base_/models/x3d_m.py',
    '../../_base_/datasets/kinetics400_clips_16x5.py',
    '../../_base_/schedules/va_red2_120e.py',
]
model = dict(cls_head=dict(num_classes=400))
optim_wrapper = dict(optimizer=dict(lr=1.8, weight_decay=5e-5))
