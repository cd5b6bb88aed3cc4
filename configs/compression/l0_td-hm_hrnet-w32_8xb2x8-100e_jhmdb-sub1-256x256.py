# Channel pruning by L0 regularisation (L0), a baseline of Skip-Convolutions
# (section 4.2): fine-tunes HRNet-w32, whose checkpoint goes into load_from.
# The loss' weight and the gates' learning rate are ours: raise the weight for
# fewer MACs. The last layer's channels are the joints.
_base_ = (
    '../skip_conv/pose/clips_td-hm_hrnet-w32_8xb2x8-100e_jhmdb-sub1-256x256.py'
)
model = dict(
    type='mmskip.ConvertedModel',
    arch='TopdownPoseEstimator',
    conversions=[dict(type='mmskip.L0Conversion', exclude='head.final_layer')],
    efficiency_loss=dict(type='mmskip.L0Loss', weight=1e-3),
)
# What gates let through in inference differs from what they do in training.
custom_hooks = [*_base_.custom_hooks, dict(type='mmskip.BatchNormHook')]
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'.gate.': dict(lr_mult=100.0, decay_mult=0.0)}
    )
)
