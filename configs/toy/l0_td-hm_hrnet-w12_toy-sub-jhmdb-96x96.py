# Channel pruning by L0 regularisation: fine-tunes the small HRNet, whose
# checkpoint goes into load_from, with --cfg-options
# model.efficiency_loss.weight= for other costs. The numbers are ours: at this
# rate gates can close in half of the schedule, and the rest recovers.
_base_ = 'clips_td-hm_hrnet-w12_toy-sub-jhmdb-96x96.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='TopdownPoseEstimator',
    backbone=dict(norm_eval=False),
    conversions=[dict(type='mmskip.L0Conversion', exclude='head.final_layer')],
    efficiency_loss=dict(type='mmskip.L0Loss', weight=2e-3),
)
custom_hooks = [*_base_.custom_hooks, dict(type='mmskip.BatchNormHook')]
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'.gate.': dict(lr_mult=600.0, decay_mult=0.0)}
    )
)
