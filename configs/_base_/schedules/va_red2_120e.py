# VA-RED^2's training from scratch (section 4.3, appendix A.2): 12 clips on
# each of 96 GPUs, synchronised batch norm, SGD with Nesterov's momentum, a
# warm-up and a cosine. lr and weight decay are R(2+1)D's. The warm-up begins
# at a hundredth ("an initial weight of 0.01", which may mean this). Fewer
# GPUs: tools/train.py --auto-scale-lr. The cosine ends with the training.
warm_up_epochs = 15

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=120, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='SGD', lr=0.18, momentum=0.9, weight_decay=5e-4, nesterov=True
    ),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        by_epoch=True,
        end=warm_up_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=warm_up_epochs,
        convert_to_iter_based=True,
    ),
]
sync_bn = 'torch'
auto_scale_lr = dict(enable=False, base_batch_size=1152)
