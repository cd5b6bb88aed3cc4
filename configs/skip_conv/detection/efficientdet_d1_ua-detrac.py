# EfficientDet-D1 on UA-DETRAC, dense: like D0, in the published sizes.
_base_ = 'efficientdet_d0_ua-detrac.py'
load_from = 'checkpoints/efficientdet_d1_coco.pth'
resize = dict(type='Resize', scale=(640, 640), keep_ratio=True)
train_pipeline = [
    resize if step['type'] == 'Resize' else step
    for step in _base_.train_pipeline
]
test_pipeline = [
    resize if step['type'] == 'Resize' else step
    for step in _base_.test_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(pad_size_divisor=640),
    backbone=dict(arch='b1'),
    neck=dict(in_channels=[40, 112, 320], out_channels=88, num_repeats=4),
    bbox_head=dict(in_channels=88, stacked_convs=3),
)
