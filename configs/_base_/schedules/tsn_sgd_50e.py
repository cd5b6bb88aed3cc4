# mmaction2's schedule of TSN, with half the epochs: HMDB51 is small. The
# paper gives none.
_base_ = '../runtimes/action.py'
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=50, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.005, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=40),
)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[20, 40], gamma=0.1, by_epoch=True)
]
auto_scale_lr = dict(enable=False, base_batch_size=128)
