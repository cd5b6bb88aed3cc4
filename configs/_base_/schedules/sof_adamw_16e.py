# The two stages of SoF-Net on toy data, from scratch. The numbers are ours;
# the temperature ends where it does in the thesis.
warm_up_epochs = 6
max_epochs = 16

train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=8
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=20),
    # 500 steps, not 25,000: policies have to make up their minds faster.
    paramwise_cfg=dict(custom_keys=dict(policies=dict(lr_mult=10))),
)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
find_unused_parameters = True  # the policies, while warming up

# To be added to custom_hooks.
stage_hooks = [
    dict(type='mmskip.WarmUpHook', epochs=warm_up_epochs),
    dict(
        type='mmskip.TemperatureHook',
        initial=5.0,
        decay=0.27,
        begin=warm_up_epochs,
    ),
]
