# A small RetinaNet with a Swin Transformer, trained from scratch on a CPU.
_base_ = [
    '../_base_/models/retinanet_swin-w24.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/datasets/toy_ua_detrac.py',
    '../_base_/schedules/adamw_8e.py',
]
randomness = dict(seed=0)
# Small batches and flips as the only augmentation: few epochs have to do.
train_pipeline = [
    step
    for step in _base_.train_pipeline
    if step['type'] != 'PhotoMetricDistortion'
]
train_dataloader = dict(
    batch_size=2, num_workers=1, dataset=dict(pipeline=train_pipeline)
)
# Weight decay as in mmdet's Swin Transformers: of neither norms nor biases of
# positions.
optim_wrapper = dict(
    optimizer=dict(lr=7e-4),
    paramwise_cfg=dict(
        bypass_duplicate=True,  # levels share the convolutions of the head
        norm_decay_mult=0.0,
        custom_keys={'relative_position_bias_table': dict(decay_mult=0.0)},
    ),
)
max_epochs = 7
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
