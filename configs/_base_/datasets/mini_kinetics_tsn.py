# Mini-Kinetics-200 for TSN: one frame of each sixteenth of a video, 224x224.
# One view of a video in test: mmaction2 averages a TSN's crops, too.
_base_ = 'mini_kinetics_clips.py'
sample = dict(type='SampleFrames', clip_len=1, num_clips=16)
short_side = dict(type='Resize', scale=(-1, 256))  # that of TSN
pack = [dict(type='FormatShape', input_format='NCHW'), _base_.pack[1]]
train_pipeline = [
    _base_.init,
    dict(sample, keep_tail_frames=True),
    _base_.decode,
    short_side,
    dict(_base_.jitter, input_size=224),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    _base_.train_crop[-1],
    *pack,
]
test_pipeline = [
    _base_.init,
    dict(sample, test_mode=True),
    _base_.decode,
    short_side,
    dict(type='CenterCrop', crop_size=224),
    *pack,
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_evaluator = _base_.val_evaluator
