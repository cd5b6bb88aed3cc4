# UA-DETRAC, or a toy one made by tools/make_toy_ua_detrac.py.
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)

# What is often changed.
data_root = 'data/UA-DETRAC/'
classes = ('car', 'van', 'bus', 'others')
single_class = False  # True: classes = ('vehicle',)
image_scale = 1.0  # of the original 960 x 540
train_batch_size = 8
num_workers = 2
train_frame_stride = 10  # consecutive frames teach little new
backend_args = None

dataset_type = 'mmskip.UADETRACDataset'
metainfo = dict(classes=classes)

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale_factor=image_scale),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackDetInputs'),
]
# `instances`: CocoMetric takes the ground truth from the samples.
# `video_id`, `frame_id`: a new video starts a new stream.
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='Resize', scale_factor=image_scale),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
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
    ),
]

train_dataloader = dict(
    batch_size=train_batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        frame_stride=train_frame_stride,
        single_class=single_class,
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
        backend_args=backend_args,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    drop_last=False,
    sampler=dict(type='mmskip.VideoOrderSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        single_class=single_class,
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(type='CocoMetric', metric='bbox'),
    dict(type='mmskip.ComputeCost'),
]
test_evaluator = val_evaluator
custom_hooks = [
    dict(type='mmskip.VideoHook'),  # streams, counts MACs
    dict(type='mmskip.IterSeedHook'),  # a resumed run draws as an unbroken one
]
