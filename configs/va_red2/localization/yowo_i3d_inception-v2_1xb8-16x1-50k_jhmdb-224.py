# The plain I3D of VA-RED^2's Table 4.9 (43.9 GMAC there, 43.5 here). The
# backbone is frozen and has to be a trained one.
_base_ = 'yowo_x3d-m_1xb8-16x1-50k_jhmdb-224.py'
model = dict(
    backbone=dict(_delete_=True, type='mmskip.I3DInceptionV2'),
    neck=dict(in_channels=(1024, 1024)),
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
)
load_from = (
    'work_dirs/i3d_inception-v2_96xb12-16x4-120e_kinetics400-256/epoch_120.pth'
)
