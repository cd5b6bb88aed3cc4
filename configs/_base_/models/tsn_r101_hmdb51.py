# TSN on a ResNet-101, 7.80 GMAC a frame (Skip-Conv, supplement, Table 1).
_base_ = 'mmaction::_base_/models/tsn_r50.py'
model = dict(
    backbone=dict(
        depth=101,
        pretrained='https://download.pytorch.org/models/resnet101-cd907fc2.pth',
    ),
    cls_head=dict(num_classes=51, dropout_ratio=0.8),
)
