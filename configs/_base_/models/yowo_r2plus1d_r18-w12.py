# A small YOWO on a narrow R(2+1)D-18 of stride 16, trained from scratch.
_base_ = 'yowo.py'
model = dict(
    freeze_backbone=False,
    backbone=dict(
        type='mmaction.ResNet2Plus1d',
        depth=18,
        base_channels=12,
        pretrained=None,
        pretrained2d=False,
        norm_eval=False,
        conv_cfg=dict(type='Conv2plus1d'),
        norm_cfg=dict(type='BN3d'),
        conv1_kernel=(3, 7, 7),
        conv1_stride_t=1,
        pool1_stride_t=1,
        inflate=(1, 1, 1, 1),
        spatial_strides=(1, 2, 2, 1),
        temporal_strides=(1, 2, 2, 1),
    ),
    neck=dict(in_channels=(96, 96), channels=96),
    bbox_head=dict(
        num_classes=8,
        in_channels=[96],
        out_channels=[96],
        featmap_strides=[16],
        anchor_generator=dict(
            base_sizes=[[(20, 32), (24, 46), (32, 50), (36, 60)]],
            strides=[16],
        ),
    ),
)
