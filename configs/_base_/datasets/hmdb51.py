# HMDB51, split 1, as videos, listed by tools/dataset_converters/hmdb51.py.
# A sample is 25 frames, one of each part of the video: at random in training,
# its middle one in test, in the centre crop (Skip-Conv, supplement). Training
# sees as many frames as the test, because gates learn from how far they lie
# apart; the other numbers are mmaction2's.
custom_imports = dict(imports=['mmskip'], allow_failed_imports=False)
default_scope = 'mmaction'

# What is often changed.
data_root = 'data/hmdb51/'
split = 1
num_classes = 51
num_segments = 25
train_batch_size = 4
num_workers = 4

dataset = dict(
    type='mmskip.ActionVideoDataset',
    data_root=data_root,
    data_prefix=dict(video='videos'),
    num_classes=num_classes,
    metainfo=dict(classes=data_root + 'classes.txt'),
)
train_dataset = dict(dataset, ann_file=f'train_split_{split}_list_videos.txt')
test_dataset = dict(
    dataset, ann_file=f'test_split_{split}_list_videos.txt', test_mode=True
)
# A video with fewer frames repeats some, in order.
sample = dict(type='SampleFrames', clip_len=1, keep_tail_frames=True)
decode = [dict(type='DecordDecode'), dict(type='Resize', scale=(-1, 256))]
augment = [
    dict(
        type='MultiScaleCrop',
        input_size=224,
        scales=(1, 0.875, 0.75, 0.66),
        random_crop=False,
        max_wh_scale_gap=1,
    ),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5),
]
centre = dict(type='CenterCrop', crop_size=224)
pack = [
    dict(type='FormatShape', input_format='NCHW'),
    dict(
        type='PackActionInputs',
        meta_keys=('img_shape', 'video_id', 'filename', 'frame_inds'),
    ),
]
train_steps = [*decode, *augment, *pack]
test_steps = [*decode, centre, *pack]
init = dict(type='DecordInit')

train_dataloader = dict(
    batch_size=train_batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        train_dataset,
        pipeline=[init, dict(sample, num_clips=num_segments), *train_steps],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        test_dataset,
        pipeline=[
            init,
            dict(sample, num_clips=num_segments, test_mode=True),
            *test_steps,
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(type='mmskip.ActionAccuracy'),
    dict(type='mmskip.ComputeCost'),
]
test_evaluator = val_evaluator
# A clip is one video: its frames follow one another, and nothing else.
hooks = [
    dict(type='mmskip.VideoHook', num_frames=num_segments, inference='clip'),
    dict(type='mmskip.IterSeedHook'),
]
