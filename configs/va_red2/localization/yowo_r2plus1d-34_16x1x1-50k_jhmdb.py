# Not in VA-RED^2: localisation on mmaction2's R(2+1)D-34, whose Kinetics
# weights are public.
_base_ = 'yowo_x3d-m_16x1x1-50k_jhmdb.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmaction.ResNet2Plus1d',
        depth=34,
        pretrained=None,
        pretrained2d=False,
        norm_eval=False,
        conv_cfg=dict(type='Conv2plus1d'),
        norm_cfg=dict(type='BN3d', eps=1e-3),
        conv1_kernel=(3, 7, 7),
        conv1_stride_t=1,
        pool1_stride_t=1,
        inflate=(1, 1, 1, 1),
        spatial_strides=(1, 2, 2, 2),
        temporal_strides=(1, 2, 2, 2),
    ),
    neck=dict(in_channels=(512, 512)),
)
