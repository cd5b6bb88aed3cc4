# What tools/make_toy_sub_jhmdb.py writes: 128 x 96, one figure, eight moves.
# All frames of a video share a crop, as its residuals are to be seen.
_base_ = 'sub_jhmdb.py'
data_root = 'data/toy_sub_jhmdb/'
crop_span = None
codec = dict(input_size=(96, 96), heatmap_size=(24, 24), sigma=1.5)
change = dict(data_root=data_root, crop_span=crop_span)
encoder = dict(type='MSRAHeatmap', **codec)
crop = dict(type='TopdownAffine', input_size=codec['input_size'])
augment = [
    _base_.augment[0],
    dict(_base_.augment[1], rotate_factor=20),
]
target = dict(type='GenerateTarget', encoder=encoder)

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **change,
        pipeline=[*_base_.load, *augment, crop, target, _base_.pack],
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(**change, pipeline=[*_base_.load, crop, _base_.pack]),
)
test_dataloader = val_dataloader
