# TSN on a ResNet-18 of a quarter of the width; the numbers are ours.
_base_ = 'mmaction::_base_/models/tsn_r50.py'

model = dict(
    backbone=dict(
        _delete_=True, type='mmskip.NarrowResNet', depth=18, base_channels=16
    ),
    cls_head=dict(num_classes=8, in_channels=128, dropout_ratio=0.2),
)
