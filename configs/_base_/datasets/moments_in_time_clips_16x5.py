# Moments in Time, listed by tools/dataset_converters/moments_in_time.py. Its
# videos last three seconds: 3-LeftCenterRight (VA-RED^2, section 4.3).
_base_ = 'kinetics400_clips_16x5.py'
data_root = 'data/moments_in_time/'
change = dict(
    data_root=data_root,
    num_classes=339,
    metainfo=dict(classes=data_root + 'classes.txt'),
)
train_change = dict(change, data_prefix=dict(video='training'))
val_change = dict(change, data_prefix=dict(video='validation'))
steps = _base_.test_dataloader.dataset.pipeline
test_pipeline = [steps[0], dict(steps[1], num_clips=3), *steps[2:]]

train_dataloader = dict(dataset=train_change)
val_dataloader = dict(dataset=val_change)
test_dataloader = dict(dataset=dict(val_change, pipeline=test_pipeline))
