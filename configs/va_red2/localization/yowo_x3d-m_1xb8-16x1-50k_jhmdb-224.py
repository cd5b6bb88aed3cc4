# The plain X3D-M of VA-RED^2's Table 4.9 (5.75 GMAC there, 5.81 here). The
# backbone is frozen and has to be a trained one.
_base_ = [
    '../../_base_/models/yowo.py',
    '../../_base_/datasets/jhmdb_localization.py',
    '../../_base_/schedules/yowo_sgd_50k.py',
]
model = dict(
    backbone=dict(
        type='mmskip.X3DSwishInSE', gamma_w=1, gamma_b=2.25, gamma_d=2.2
    ),
    neck=dict(in_channels=(432, 432)),
)
load_from = 'work_dirs/x3d_m_96xb12-16x5-120e_kinetics400-256/epoch_120.pth'
