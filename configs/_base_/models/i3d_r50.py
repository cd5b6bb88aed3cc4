# mmaction2's I3D-R50, from scratch. 21.6 GMAC for 16 frames of 256x256.
_base_ = 'mmaction::_base_/models/i3d_r50.py'
model = dict(
    backbone=dict(pretrained=None, pretrained2d=False),
    cls_head=dict(num_classes=200, average_clips=None),
)
