# Clips of 128x128, for R(2+1)D.
_base_ = 'kinetics400_clips.py'
short_side = dict(type='Resize', scale=(-1, 128))
train_crop = [
    short_side,
    dict(_base_.jitter, input_size=128),
    dict(type='Resize', scale=(128, 128), keep_ratio=False),
    _base_.train_crop[-1],
]
val_crop = [short_side, dict(type='CenterCrop', crop_size=128)]
test_crop = [short_side, dict(type='ThreeCrop', crop_size=128)]
steps = _base_.train_dataloader.dataset.pipeline[:3]
test_steps = _base_.test_dataloader.dataset.pipeline[:3]
val_steps = _base_.val_dataloader.dataset.pipeline[:3]

train_dataloader = dict(
    dataset=dict(pipeline=[*steps, *train_crop, *_base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[*val_steps, *val_crop, *_base_.pack])
)
test_dataloader = dict(
    dataset=dict(pipeline=[*test_steps, *test_crop, *_base_.pack])
)
