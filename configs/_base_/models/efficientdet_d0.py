# EfficientDet-D0 out of mmdet's EfficientNet, a BiFPN and a shared head.
# D0 to D3 differ in the named knobs; a config sets them where they belong.
arch = 'b0'  # D1 b1, D2 b2, D3 b3
in_channels = [
    40,
    112,
    320,
]  # D1 the same, D2 [48, 120, 352], D3 [48, 136, 384]
channels = 64  # D1 88, D2 112, D3 160
num_repeats = 3  # D1 4, D2 5, D3 6
stacked_convs = 3  # D3 4
num_classes = 90  # COCO, with the ids that nothing is labelled with
input_size = 512  # D1 640, D2 768, D3 896
anchor_scale = 4.0

model = dict(
    type='RetinaNet',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=input_size,  # to a square, if no side is longer
    ),
    backbone=dict(
        type='EfficientNet',
        arch=arch,
        out_indices=(3, 4, 5),
        drop_path_rate=0.2,
        norm_cfg=dict(type='BN', eps=1e-3, momentum=0.01),
    ),
    neck=dict(
        type='mmskip.BiFPN',
        in_channels=in_channels,
        out_channels=channels,
        num_repeats=num_repeats,
    ),
    bbox_head=dict(
        type='mmskip.EfficientDetHead',
        num_classes=num_classes,
        in_channels=channels,
        stacked_convs=stacked_convs,
        # In the order of the authors' checkpoints; their ratios of 1.4 to 0.7
        # are here exactly 2.
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=anchor_scale,
            scales_per_octave=3,
            ratios=[1.0, 0.5, 2.0],
            scale_major=False,
            strides=[8, 16, 32, 64, 128],
            center_offset=0.5,
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(
            type='FocalLoss',
            use_sigmoid=True,
            gamma=1.5,
            alpha=0.25,
            loss_weight=1.0,
        ),
        # 50 times the Huber loss of delta 0.1, averaged over 4 coordinates.
        loss_bbox=dict(type='SmoothL1Loss', beta=0.1, loss_weight=1.25),
    ),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.5,
            min_pos_iou=0,
            ignore_iof_thr=0.5,
        ),
        sampler=dict(type='PseudoSampler'),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=100,
    ),
)
