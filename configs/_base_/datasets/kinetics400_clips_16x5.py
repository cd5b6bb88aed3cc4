# Frames 5 apart, for X3D-M (VA-RED^2, section 4.4).
_base_ = 'kinetics400_clips.py'
train = _base_.train_dataloader.dataset.pipeline
val = _base_.val_dataloader.dataset.pipeline
test = _base_.test_dataloader.dataset.pipeline
train_pipeline = [train[0], dict(train[1], frame_interval=5), *train[2:]]
val_pipeline = [val[0], dict(val[1], frame_interval=5), *val[2:]]
test_pipeline = [test[0], dict(test[1], frame_interval=5), *test[2:]]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
