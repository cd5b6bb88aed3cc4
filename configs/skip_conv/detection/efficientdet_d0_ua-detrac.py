# EfficientDet-D0 on UA-DETRAC, dense. The paper's (Skip-Conv, Section 4.1):
# SGD, random flips as the only augmentation, weights from COCO, BatchNorm
# synchronised over 4 GPUs. Ours, as the paper does not tell or the text is
# lost: square input, learning rate, momentum, decay, epochs, batch size.
_base_ = [
    '../../_base_/models/efficientdet_d0.py',
    'mmdet::_base_/default_runtime.py',
    '../../_base_/datasets/ua_detrac.py',
    '../../_base_/schedules/sgd_12e.py',
]
# Made by tools/model_converters/efficientdet.py.
load_from = 'checkpoints/efficientdet_d0_coco.pth'
sync_bn = 'torch'  # in distributed training; None on CPUs
resize = dict(type='Resize', scale=(512, 512), keep_ratio=True)
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
model = dict(bbox_head=dict(num_classes=len(_base_.classes)))
