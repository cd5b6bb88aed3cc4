# What tools/make_toy_activitynet.py writes: 112 x 112, one label a video.
_base_ = 'activitynet.py'
data_root = 'data/toy_activitynet/'
change = dict(
    data_root=data_root,
    multi_class=False,
    num_classes=8,
    metainfo=dict(classes=data_root + 'classes.txt'),
)
train_pipeline = [*_base_.train_load[:3], _base_.flip, *_base_.pack]
test_pipeline = [*_base_.test_load[:3], *_base_.pack]

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(**change, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(**change, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
