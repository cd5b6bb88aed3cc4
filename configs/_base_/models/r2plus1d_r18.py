# R(2+1)D-18 of the VA-RED^2 thesis: trained from scratch, no pooling behind
# the stem. 55.1 GMAC for 16 frames of 128x128.
_base_ = 'mmaction::_base_/models/r2plus1d_r34.py'

model = dict(
    backbone=dict(
        type='mmskip.R2Plus1D', depth=18, norm_cfg=dict(type='BN3d')
    ),
    cls_head=dict(num_classes=200, average_clips=None),
)
