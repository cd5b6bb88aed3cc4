# Skip-Conv, section 4.2: Adam, decays at epochs 40 and 80. The rest is lost:
# the learning rate is mmpose's, 100 epochs and the factor of 10 are ours.
_base_ = '../runtimes/pose.py'
train_cfg = dict(max_epochs=100, val_interval=5)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=5e-4, weight_decay=0.0),
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500
    ),
    dict(type='MultiStepLR', milestones=[40, 80], gamma=0.1, by_epoch=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=128)
