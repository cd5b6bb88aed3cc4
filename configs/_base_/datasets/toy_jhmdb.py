# What tools/make_toy_jhmdb.py writes: 128 x 96, one figure, eight actions.
_base_ = 'jhmdb_localization.py'
data_root = 'data/toy_jhmdb/'
change = dict(data_root=data_root, num_classes=8)
load = [
    dict(type='mmskip.SampleKeyFrameClip', clip_len=8, key='last'),
    dict(type='RawFrameDecode'),
    dict(type='Resize', scale=(128, 96), keep_ratio=False),
]
flip = dict(type='Flip', flip_ratio=0.5)

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **change, frame_stride=3, pipeline=[*load, flip, *_base_.pack]
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(**change, frame_stride=3, pipeline=[*load, *_base_.pack]),
)
test_dataloader = val_dataloader
