# mmaction2's detector of spatio-temporal actions, as in its AVA configs: boxes
# are proposed by others, the head tells their actions. A config adds a 3D
# backbone of stride 16, with its channels as roi_head.bbox_head.in_channels.
model = dict(
    type='mmdet.FastRCNN',
    roi_head=dict(
        type='mmskip.ActionRoIHead',
        _scope_='mmdet',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor3D',
            roi_layer_type='RoIAlign',
            featmap_stride=16,
            output_size=8,
            with_temporal_pool=True,
        ),
        bbox_head=dict(
            type='BBoxHeadAVA',
            background_class=False,
            multilabel=False,
            num_classes=21,
            dropout_ratio=0.5,
            topk=None,
        ),
    ),
    train_cfg=dict(
        rcnn=dict(
            assigner=dict(
                type='mmdet.MaxIoUAssignerAVA',
                pos_iou_thr=0.9,
                neg_iou_thr=0.9,
                min_pos_iou=0.9,
            ),
            sampler=dict(
                type='mmdet.RandomSampler',
                num=32,
                pos_fraction=1,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            pos_weight=1.0,
        )
    ),
    test_cfg=dict(rcnn=None),
    data_preprocessor=dict(
        type='mmaction.ActionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        format_shape='NCTHW',
    ),
)
