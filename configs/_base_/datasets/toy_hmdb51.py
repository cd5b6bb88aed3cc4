# What tools/make_toy_hmdb51.py writes: 112 x 96, eight moves, in 8 frames.
_base_ = 'hmdb51.py'
data_root = 'data/toy_hmdb51/'
num_segments = 8
change = dict(
    data_root=data_root,
    num_classes=8,
    metainfo=dict(classes=data_root + 'classes.txt'),
)
first, seed = _base_.hooks
hooks = [dict(first, num_frames=num_segments), seed]
flip = dict(type='Flip', flip_ratio=0.5)
load = _base_.decode[0]

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **change,
        pipeline=[
            _base_.init,
            dict(_base_.sample, num_clips=num_segments),
            load,
            flip,
            *_base_.pack,
        ],
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **change,
        pipeline=[
            _base_.init,
            dict(_base_.sample, num_clips=num_segments, test_mode=True),
            load,
            *_base_.pack,
        ],
    ),
)
test_dataloader = val_dataloader
