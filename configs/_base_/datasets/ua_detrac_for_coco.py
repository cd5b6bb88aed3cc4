# UA-DETRAC in place of COCO, for configs that inherit a detector, its
# pipelines and its schedule from mmdet. Every tenth frame is trained on.
classes = ('car', 'van', 'bus', 'others')
ua_detrac = dict(
    _delete_=True,
    type='mmskip.UADETRACDataset',
    data_root='data/UA-DETRAC/',
    metainfo=dict(classes=classes),
)
train_dataset = dict(
    ua_detrac,
    split='train',
    frame_stride=10,
    filter_cfg=dict(filter_empty_gt=True),
)
test_dataset = dict(ua_detrac, split='test', test_mode=True)
test_loader = dict(
    batch_size=1,
    sampler=dict(_delete_=True, type='mmskip.VideoOrderSampler'),
)
# Boxes only. A sample tells its video, and CocoMetric the ground truth.
load_boxes = dict(type='LoadAnnotations', with_bbox=True)
pack = dict(
    type='PackDetInputs',
    meta_keys=(
        'img_id',
        'img_path',
        'ori_shape',
        'img_shape',
        'scale_factor',
        'instances',
        'video_id',
        'frame_id',
    ),
)
custom_hooks = [dict(type='mmskip.VideoHook')]
evaluators = [
    dict(type='CocoMetric', metric='bbox'),
    dict(type='mmskip.ComputeCost'),
]
