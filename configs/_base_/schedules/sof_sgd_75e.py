# The two stages of SoF-Net (section 4.2): 15 epochs without policies, 60
# with. The learning rate falls after 30 of these. Batches of 24 in all.
# Clipping is that of the authors' code; the thesis does not mention it.
warm_up_epochs = 15
max_epochs = 75

train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=1e-5),
    clip_grad=dict(max_norm=20),
)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[45], gamma=0.1, by_epoch=True)
]
auto_scale_lr = dict(enable=False, base_batch_size=24)
find_unused_parameters = True  # the policies, while warming up

# To be added to custom_hooks.
stage_hooks = [
    dict(type='mmskip.WarmUpHook', epochs=warm_up_epochs),
    dict(
        type='mmskip.TemperatureHook',
        initial=5.0,
        decay=0.045,
        begin=warm_up_epochs,
    ),
]
