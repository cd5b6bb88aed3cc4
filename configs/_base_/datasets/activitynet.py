# ActivityNet-v1.3 as videos, listed by
# tools/dataset_converters/activitynet.py. T = 16 frames of a video, one of
# each sixteenth: at random in training, its middle one in test. A video with
# fewer frames repeats them, in order.
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)
default_scope = 'mmaction'

# What is often changed.
data_root = 'data/activitynet/'
num_classes = 200
train_batch_size = 6
num_workers = 4
num_places = 5  # policies of a SoF-Net on a ResNet

dataset = dict(
    type='mmskip.ActionVideoDataset',
    data_root=data_root,
    data_prefix=dict(video='videos'),
    multi_class=True,
    num_classes=num_classes,
    metainfo=dict(classes=data_root + 'classes.txt'),
)
train_dataset = dict(dataset, ann_file='train_list_videos.txt')
test_dataset = dict(
    dataset,
    ann_file='val_list_videos.txt',
    test_mode=True,
    on_broken='raise',  # 'skip': leave out videos that cannot be decoded
)

# Crops and resizing are those of the authors' code, with bilinear resizing.
train_load = [
    dict(type='DecordInit'),
    # With keep_tail_frames=False, 17 to 31 frames would lose their end.
    dict(type='SampleFrames', clip_len=1, num_clips=16, keep_tail_frames=True),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 256)),
    dict(
        type='MultiScaleCrop',
        input_size=224,
        scales=(1, 0.875, 0.75, 0.66),
        random_crop=False,
        max_wh_scale_gap=1,
    ),
]
test_load = [
    dict(type='DecordInit'),
    dict(type='SampleFrames', clip_len=1, num_clips=16, test_mode=True),
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='CenterCrop', crop_size=224),
]
pack = [
    dict(type='FormatShape', input_format='NCHW'),
    dict(
        type='PackActionInputs',
        meta_keys=(
            'img_shape',
            'video_id',
            'filename',
            'frame_dir',
            'frame_inds',
            'total_frames',
        ),
    ),
]
flip = dict(type='Flip', flip_ratio=0.5)
resize = dict(type='Resize', scale=(168, 168), keep_ratio=False)

train_dataloader = dict(
    batch_size=train_batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(train_dataset, pipeline=[*train_load, resize, flip, *pack]),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(test_dataset, pipeline=[*test_load, resize, *pack]),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(type='mmskip.ActionAccuracy'),
    dict(type='mmskip.VideoCost', num_places=num_places),
]
test_evaluator = val_evaluator
custom_hooks = [
    dict(type='mmskip.VideoHook'),  # counts MACs
    dict(type='mmskip.VideoTimerHook'),
    dict(type='mmskip.IterSeedHook'),  # resume draws what it would have
]
