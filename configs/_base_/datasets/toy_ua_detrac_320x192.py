# The toy UA-DETRAC at 320 x 192, with flips as the only augmentation.
_base_ = 'toy_ua_detrac.py'
resize = dict(type='Resize', scale=(320, 192), keep_ratio=True)
train_pipeline = [
    resize if step['type'] == 'Resize' else step
    for step in _base_.train_pipeline
    if step['type'] != 'PhotoMetricDistortion'
]
test_pipeline = [
    resize if step['type'] == 'Resize' else step
    for step in _base_.test_pipeline
]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
