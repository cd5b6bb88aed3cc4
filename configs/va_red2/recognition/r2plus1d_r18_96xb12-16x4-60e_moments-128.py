# R(2+1)D-18 (Table 4.7, base model).
_base_ = [
    '../../_base_/runtimes/action.py',
    '../../_base_/models/r2plus1d_r18.py',
    '../../_base_/datasets/moments_in_time_clips_128.py',
    '../../_base_/schedules/va_red2_60e.py',
]
model = dict(cls_head=dict(num_classes=339))
