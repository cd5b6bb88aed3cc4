# The dense detector, fine-tuned in clips of 4 frames on the schedule of the
# learned gates, to compare with. Its checkpoint goes into load_from.
_base_ = [
    'efficientdet_d0_toy-ua-detrac.py',
    '../_base_/conversions/gumbel.py',
]
train_dataloader = dict(
    _base_.clip_loader,
    dataset=dict(
        _base_.clip_dataset,
        dataset=_base_.train_dataloader.dataset,
        windows=dict(type='RandomStart'),
    ),
)
model = dict(backbone=dict(norm_eval=True))
train_cfg = dict(max_epochs=4, val_interval=4)  # the schedule is ours
optim_wrapper = dict(
    optimizer=dict(lr=2e-4), paramwise_cfg=_base_.paramwise_cfg
)
warm_up, decay = _base_.param_scheduler
param_scheduler = [dict(warm_up, end=20), decay]
custom_hooks = [
    dict(type='mmskip.VideoHook', num_frames=_base_.num_frames),
    *_base_.custom_hooks[1:],
]
