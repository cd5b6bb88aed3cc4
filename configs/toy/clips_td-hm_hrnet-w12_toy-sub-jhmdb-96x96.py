# The small HRNet, fine-tuned in clips of 8 frames on the schedule of the
# learned gates, to compare with. Its checkpoint goes into load_from.
_base_ = [
    'td-hm_hrnet-w12_toy-sub-jhmdb-96x96.py',
    '../_base_/conversions/gumbel.py',
]
num_frames = 8
train_dataloader = dict(
    _base_.clip_loader,
    batch_size=4,
    dataset=dict(
        _base_.clip_dataset,
        num_frames=num_frames,
        dataset=_base_.train_dataloader.dataset,
        windows=dict(type='RandomStart', clips_per_video=2),
    ),
)
model = dict(backbone=dict(norm_eval=True))
train_cfg = dict(max_epochs=4, val_interval=4)  # the schedule is ours
optim_wrapper = dict(optimizer=dict(lr=2e-4))
warm_up, decay = _base_.param_scheduler
param_scheduler = [dict(warm_up, end=20), decay]
custom_hooks = [
    dict(type='mmskip.VideoHook', num_frames=num_frames),
    *_base_.custom_hooks[1:],
]
