_base_ = 'activitynet.py'
resize = dict(type='Resize', scale=(192, 192), keep_ratio=False)
train_pipeline = [*_base_.train_load, resize, _base_.flip, *_base_.pack]
test_pipeline = [*_base_.test_load, resize, *_base_.pack]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
