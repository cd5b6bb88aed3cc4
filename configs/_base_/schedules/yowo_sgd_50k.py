# VA-RED^2, Section 4.3: SGD from 1e-4, halved at 10k, 20k, 30k and 40k
# iterations. Momentum and weight decay are those of YOWO's code; the end at
# 50k is ours.
_base_ = '../runtimes/action.py'
max_iters = 50_000
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5_000
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=1e-4, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(
        type='MultiStepLR',
        milestones=[10_000, 20_000, 30_000, 40_000],
        gamma=0.5,
        by_epoch=False,
    )
]
default_hooks = dict(
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=5_000, max_keep_ckpts=3
    ),
)
log_processor = dict(by_epoch=False)
