# Kinetics-400 as clips of 16 frames, 4 apart, of 256x256; listed by
# tools/dataset_converters/kinetics400.py. Training crops as TSN does (corners
# and centre, four scales, flips); the test is 10-LeftCenterRight (VA-RED^2,
# section 4.3). Ours: the distance of frames (the thesis gives X3D's alone), a
# shorter side as long as the input, and one centre crop in validation.
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)
default_scope = 'mmaction'

# What is often changed; 128x128: *_clips_128.py, 5 apart: *_clips_16x5.py.
data_root = 'data/kinetics400/'
num_classes = 400
train_batch_size = 12
num_workers = 8

dataset = dict(
    type='mmskip.ActionVideoDataset',
    data_root=data_root,
    num_classes=num_classes,
    metainfo=dict(classes=data_root + 'classes.txt'),
)
train_dataset = dict(
    dataset,
    ann_file='train_list_videos.txt',
    data_prefix=dict(video='train'),
)
test_dataset = dict(
    dataset,
    ann_file='val_list_videos.txt',
    data_prefix=dict(video='val'),
    test_mode=True,
    on_broken='raise',  # 'skip': leave out videos that cannot be decoded
)

sample = dict(type='SampleFrames', clip_len=16, frame_interval=4, num_clips=1)
test_sample = dict(sample, test_mode=True)
views = dict(test_sample, num_clips=10)
init = dict(type='DecordInit')
decode = dict(type='DecordDecode')
jitter = dict(
    type='MultiScaleCrop',
    input_size=256,
    scales=(1, 0.875, 0.75, 0.66),
    random_crop=False,
    num_fixed_crops=13,
    max_wh_scale_gap=1,
)
train_crop = [
    dict(type='Resize', scale=(-1, 256)),
    jitter,
    dict(type='Resize', scale=(256, 256), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5),
]
val_crop = [
    dict(type='Resize', scale=(-1, 256)),
    dict(type='CenterCrop', crop_size=256),
]
test_crop = [
    dict(type='Resize', scale=(-1, 256)),
    dict(type='ThreeCrop', crop_size=256),
]
pack = [
    dict(type='FormatShape', input_format='NCTHW'),
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

train_dataloader = dict(
    batch_size=train_batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        train_dataset, pipeline=[init, sample, decode, *train_crop, *pack]
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        test_dataset, pipeline=[init, test_sample, decode, *val_crop, *pack]
    ),
)
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        test_dataset, pipeline=[init, views, decode, *test_crop, *pack]
    ),
)

val_evaluator = [
    dict(type='mmskip.ClipAccuracy', num_crops=1),
    dict(type='mmskip.ClipCost'),
]
test_evaluator = [
    dict(type='mmskip.ClipAccuracy'),
    dict(type='mmskip.ClipCost'),
]
custom_hooks = [
    dict(type='mmskip.ClipCostHook'),
    dict(type='mmskip.VideoTimerHook'),
]
