# X3D-M of the VA-RED^2 thesis: Swish only beside squeeze-and-excitation.
# 6.18 GMAC for 16 frames of 256x256.
_base_ = 'mmaction::_base_/models/x3d.py'
model = dict(
    backbone=dict(type='mmskip.X3DSwishInSE'),
    cls_head=dict(num_classes=200, average_clips=None),
)
