# Small, with the backbone of the small YOWO, trained from scratch.
_base_ = 'action-rcnn.py'
model = dict(
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
    roi_head=dict(
        bbox_roi_extractor=dict(output_size=4),
        bbox_head=dict(in_channels=96, num_classes=8, dropout_ratio=0.2),
    ),
)
