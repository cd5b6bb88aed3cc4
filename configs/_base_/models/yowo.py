# YOWO whose only backbone is a 3D one; a config adds it, with the channels
# of its last level as neck.in_channels. Anchors are YOWO's for J-HMDB, at
# 224 x 224; losses are those of mmdet's YOLOv3.
model = dict(
    type='mmskip.YOWO',
    key='last',
    freeze_backbone=True,
    neck=dict(type='mmskip.ChannelFusion', channels=1024),
    bbox_head=dict(
        type='YOLOV3Head',
        _scope_='mmdet',
        num_classes=21,
        in_channels=[1024],
        out_channels=[1024],
        featmap_strides=[32],
        anchor_generator=dict(
            type='YOLOAnchorGenerator',
            base_sizes=[
                [
                    (30.7, 99.3),
                    (53.5, 128.1),
                    (56.2, 180.8),
                    (99.0, 185.9),
                    (157.4, 200.1),
                ]
            ],
            strides=[32],
        ),
        bbox_coder=dict(type='YOLOBBoxCoder'),
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU'),
        loss_cls=dict(
            type='CrossEntropyLoss', use_sigmoid=True, reduction='sum'
        ),
        loss_conf=dict(
            type='CrossEntropyLoss', use_sigmoid=True, reduction='sum'
        ),
        loss_xy=dict(
            type='CrossEntropyLoss', use_sigmoid=True, reduction='sum'
        ),
        loss_wh=dict(type='SmoothL1Loss', reduction='sum'),
    ),
    train_cfg=dict(
        assigner=dict(
            type='mmdet.GridAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.5,
            min_pos_iou=0,
        )
    ),
    test_cfg=dict(
        nms_pre=1000,
        score_thr=0.005,
        # One class per box, as in YOWO's code.
        nms=dict(type='nms', iou_threshold=0.4, class_agnostic=True),
        max_per_img=100,
    ),
    data_preprocessor=dict(
        type='mmaction.ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.38, 57.38, 57.38],
        format_shape='NCTHW',
    ),
)
