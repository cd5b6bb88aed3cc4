# X3D of two thirds of the width and half the depth of X3D-M, for small
# frames; the numbers are ours. Swish only in the squeeze-and-excitation, as
# in the thesis on VA-RED^2 (section 4.2).
_base_ = 'mmaction::_base_/models/x3d.py'
gamma_w = 2 / 3  # 16 channels, to be doubled from stage to stage

model = dict(
    backbone=dict(type='mmskip.X3DSwishInSE', gamma_w=gamma_w, gamma_d=1),
    cls_head=dict(
        num_classes=8,
        in_channels=288,  # 8 x 16 channels x gamma_b
        dropout_ratio=0.2,
        init_std=0.1,  # with 0.01 directions are not learned in ten epochs
        average_clips=None,  # mmskip.ClipAccuracy sees every view
    ),
)
