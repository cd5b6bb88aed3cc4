# EfficientDet-D0 at 320 x 192 on the toy UA-DETRAC, dense, from scratch.
# The sizes and the schedule are ours: minutes on a CPU.
_base_ = [
    '../_base_/models/efficientdet_d0.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/datasets/toy_ua_detrac_320x192.py',
    '../_base_/schedules/adamw_12e.py',
]
randomness = dict(seed=0)
norm = dict(momentum=0.03)  # 1000 iterations have to be enough
model = dict(
    data_preprocessor=dict(pad_size_divisor=64),
    backbone=dict(drop_path_rate=0.0, norm_cfg=norm),
    bbox_head=dict(
        num_classes=len(_base_.classes),
        anchor_generator=dict(octave_base_scale=2.0),  # vehicles are small
    ),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmskip.ChannelsLastHook'),
]
