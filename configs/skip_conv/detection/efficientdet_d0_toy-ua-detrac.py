# EfficientDet-D0 at 320 x 192 on the toy UA-DETRAC, dense, from scratch.
# The sizes and the schedule are ours: minutes on a CPU.
_base_ = [
    '../../_base_/models/efficientdet_d0.py',
    'mmdet::_base_/default_runtime.py',
    '../../_base_/datasets/toy_ua_detrac.py',
    '../../_base_/schedules/adamw_12e.py',
]
randomness = dict(seed=0)
resize = dict(type='Resize', scale=(320, 192), keep_ratio=True)
train_pipeline = [
    resize if step['type'] == 'Resize' else step
    for step in _base_.train_pipeline
    if step['type'] != 'PhotoMetricDistortion'
]
test_pipeline = [
    resize if step['type'] == 'Resize' else step
    for step in _base_.test_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
norm = dict(momentum=0.03)  # 1000 iterations have to be enough
model = dict(
    data_preprocessor=dict(pad_size_divisor=64),
    backbone=dict(drop_path_rate=0.0, norm_cfg=norm),
    bbox_head=dict(
        num_classes=len(_base_.classes),
        anchor_generator=dict(octave_base_scale=2.0),  # vehicles are small
    ),
)
