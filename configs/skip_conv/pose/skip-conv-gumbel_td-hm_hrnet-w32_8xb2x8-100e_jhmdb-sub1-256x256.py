# Learned gates in HRNet-w32 on split 1, in clips of 8 frames. The dense
# model's checkpoint goes into load_from. Beta is ours: the paper weighs MACs
# by 1e-5, in units that it does not tell.
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
model = dict(
    type='mmskip.ConvertedModel',
    arch='TopdownPoseEstimator',
    conversions=_base_.conversions[:1],  # nothing is depthwise
    efficiency_loss=dict(_base_.efficiency_loss, beta=2e-3),
)
optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
# Inference in clips, too: a reference frame every 8 frames (Table 4).
stream = dict(
    type='mmskip.VideoHook', num_frames=num_frames, reset_interval=num_frames
)
custom_hooks = [stream, *_base_.custom_hooks[1:]]
