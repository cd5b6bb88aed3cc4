# On the R(2+1)D-18 of VA-RED^2, which has that stride as it is.
_base_ = 'action-rcnn.py'
model = dict(
    backbone=dict(
        type='mmskip.R2Plus1D',
        depth=18,
        norm_cfg=dict(type='BN3d', requires_grad=True, eps=1e-3),
    ),
    roi_head=dict(bbox_head=dict(in_channels=512)),
)
