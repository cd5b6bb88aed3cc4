# HRNet-w32 on split 1, fine-tuned in clips of 8 frames on the schedule of the
# learned gates, to compare with. The dense model's checkpoint goes into
# load_from.
_base_ = [
    'td-hm_hrnet-w32_8xb16-100e_jhmdb-sub1-256x256.py',
    '../../_base_/conversions/gumbel.py',
]
num_frames = 8
train_dataloader = dict(
    _base_.clip_loader,
    dataset=dict(
        _base_.clip_dataset,
        num_frames=num_frames,
        dataset=_base_.train_dataloader.dataset,
        windows=dict(type='RandomStart', clips_per_video=4),
    ),
)
# Inference in clips, too: a reference frame every 8 frames (Table 4).
stream = dict(
    type='mmskip.VideoHook', num_frames=num_frames, reset_interval=num_frames
)
custom_hooks = [stream, *_base_.custom_hooks[1:]]
