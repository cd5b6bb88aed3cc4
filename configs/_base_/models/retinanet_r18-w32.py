# ResNet-18 of half width, four pyramid levels of 64 channels, a shared head
# with a BatchNorm per level. The sizes are ours, for training from scratch.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
norm = dict(type='BN')
model = dict(
    backbone=dict(
        depth=18,
        base_channels=32,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(
        in_channels=[32, 64, 128, 256],
        out_channels=64,
        num_outs=4,
        norm_cfg=norm,
        add_extra_convs='on_output',
    ),
    bbox_head=dict(
        type='RetinaSepBNHead',
        num_ins=4,
        num_classes=4,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        norm_cfg=norm,
        anchor_generator=dict(strides=[8, 16, 32, 64]),
        reg_decoded_bbox=True,
        loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=2.0),
    ),
    train_cfg=dict(assigner=dict(ignore_iof_thr=0.5)),
)
