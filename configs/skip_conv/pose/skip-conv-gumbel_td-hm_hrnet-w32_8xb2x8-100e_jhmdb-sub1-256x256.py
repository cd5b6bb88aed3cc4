# Learned gates in HRNet-w32 on split 1, in clips of 8 frames. The dense
# model's checkpoint goes into load_from. Beta is ours: the paper weighs MACs
# by 1e-5, in units that it does not tell.
_base_ = 'clips_td-hm_hrnet-w32_8xb2x8-100e_jhmdb-sub1-256x256.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='TopdownPoseEstimator',
    conversions=_base_.conversions[:1],  # nothing is depthwise
    efficiency_loss=dict(_base_.efficiency_loss, beta=2e-3),
)
optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
