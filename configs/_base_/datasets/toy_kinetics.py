# What tools/make_toy_kinetics.py writes: 96 x 80, 32 frames, eight classes.
# A clip is 8 frames, one of two. Training: one clip, cropped at random;
# validation: one clip, its centre; test: K = 2 clips x LeftCenterRight.
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)
default_scope = 'mmaction'

# What is often changed.
data_root = 'data/toy_kinetics/'
num_classes = 8
train_batch_size = 16
test_batch_size = 8
side = 64  # pixels of the square input
clip_len = 8
frame_interval = 2
num_clips = 2  # K

dataset = dict(
    type='mmskip.ActionVideoDataset',
    data_root=data_root,
    num_classes=num_classes,
    metainfo=dict(classes=data_root + 'classes.txt'),
)
train_dataset = dict(
    dataset,
    ann_file='train_list_videos.txt',
    data_prefix=dict(video='videos_train'),
)
test_dataset = dict(
    dataset,
    ann_file='val_list_videos.txt',
    data_prefix=dict(video='videos_val'),
    test_mode=True,
)

sample = dict(
    type='SampleFrames', clip_len=clip_len, frame_interval=frame_interval
)
load = [
    dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, side)),
]
pack = [
    dict(type='FormatShape', input_format='NCTHW'),
    dict(
        type='PackActionInputs',
        meta_keys=('img_shape', 'video_id', 'filename', 'frame_inds'),
    ),
]
train_pipeline = [
    dict(type='DecordInit'),
    dict(sample, num_clips=1),
    *load,
    dict(type='RandomCrop', size=side),
    *pack,
]
val_pipeline = [
    dict(type='DecordInit'),
    dict(sample, num_clips=1, test_mode=True),
    *load,
    dict(type='CenterCrop', crop_size=side),
    *pack,
]
test_pipeline = [
    dict(type='DecordInit'),
    dict(sample, num_clips=num_clips, test_mode=True),
    *load,
    dict(type='ThreeCrop', crop_size=side),
    *pack,
]

train_dataloader = dict(
    batch_size=train_batch_size,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(train_dataset, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=test_batch_size,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(test_dataset, pipeline=val_pipeline),
)
test_dataloader = dict(
    val_dataloader, dataset=dict(test_dataset, pipeline=test_pipeline)
)

groups = data_root + 'groups.json'  # static, slow or fast
val_evaluator = [
    dict(type='mmskip.ClipAccuracy', num_crops=1, groups=groups),
    dict(type='mmskip.ClipCost', groups=groups),
]
test_evaluator = [
    dict(type='mmskip.ClipAccuracy', num_crops=3, groups=groups),
    dict(type='mmskip.ClipCost', groups=groups),
]
custom_hooks = [
    dict(type='mmskip.ClipCostHook'),
    dict(type='mmskip.VideoTimerHook'),
]
