# The dense detector, fine-tuned in clips of 4 frames on the schedule of the
# learned gates, to compare with. Its checkpoint goes into load_from.
_base_ = [
    'efficientdet_d0_toy-ua-detrac.py',
    '../../_base_/conversions/gumbel.py',
]
base_lr, max_epochs = 2e-4, 4  # ours
train_dataloader = dict(
    batch_size=_base_.clips_per_batch,
    sampler=dict(_delete_=True, **_base_.clip_sampler),
    batch_sampler=None,
    collate_fn=_base_.clip_collate,
    dataset=dict(
        _delete_=True,
        dataset=_base_.train_dataloader.dataset,
        **dict(_base_.clip_dataset, windows=dict(type='RandomStart')),
    ),
)
model = dict(backbone=dict(norm_eval=True))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=base_lr), paramwise_cfg=_base_.paramwise_cfg
)
warm_up, decay = _base_.param_scheduler
param_scheduler = [
    dict(warm_up, start_factor=0.1, end=20),
    dict(decay, T_max=max_epochs),
]
custom_hooks = [dict(type='mmskip.VideoHook', num_frames=_base_.num_frames)]
