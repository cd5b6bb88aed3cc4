# Temporal Pyramid Network on SlowOnly-R50, from scratch. Without fcn_test:
# mmaction2's head copies its weights at the first test and keeps the copy.
_base_ = 'mmaction::_base_/models/tpn_slowonly_r50.py'
model = dict(
    backbone=dict(pretrained=None),
    neck=dict(aux_head_cfg=dict(out_channels=200)),
    cls_head=dict(num_classes=200, average_clips=None),
    test_cfg=None,
)
