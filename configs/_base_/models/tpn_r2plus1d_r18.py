# Temporal Pyramid Network on R(2+1)D-18: 28.4 and 56.8 GMAC for 8 and 16
# frames of 128x128. Channels are mmaction2's divided by four, as ResNet-18's
# are ResNet-50's; those of the last convolution are fixed in mmaction2. The
# finer level has twice the frames of the coarser one.
_base_ = 'r2plus1d_r18.py'
model = dict(
    backbone=dict(out_indices=(2, 3)),
    neck=dict(
        type='TPN',
        in_channels=(256, 512),
        out_channels=256,
        spatial_modulation_cfg=dict(in_channels=(256, 512), out_channels=512),
        temporal_modulation_cfg=dict(downsample_scales=(2, 1)),
        upsample_cfg=dict(scale_factor=(1, 1, 1)),
        downsample_cfg=dict(downsample_scale=(1, 1, 1)),
        level_fusion_cfg=dict(
            in_channels=(256, 256),
            mid_channels=(256, 256),
            out_channels=2048,
            downsample_scales=((1, 1, 1), (1, 1, 1)),
        ),
        aux_head_cfg=dict(out_channels=200, loss_weight=0.5),
    ),
    cls_head=dict(
        type='TPNHead',
        in_channels=2048,
        consensus=dict(type='AvgConsensus', dim=1),
    ),
)
