# I3D on BN-Inception, from scratch. 55.4 GMAC for 16 frames of 256x256.
_base_ = 'mmaction::_base_/models/i3d_r50.py'
model = dict(
    backbone=dict(_delete_=True, type='mmskip.I3DInceptionV2'),
    cls_head=dict(num_classes=200, in_channels=1024, average_clips=None),
)
