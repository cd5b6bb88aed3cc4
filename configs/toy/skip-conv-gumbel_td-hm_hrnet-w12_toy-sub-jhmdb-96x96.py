# Learned gates: fine-tunes the small HRNet, whose checkpoint goes into
# load_from, with --cfg-options model.efficiency_loss.beta= for other costs
# and model.conversions.0.gate.block_size= for blocks. Beta is ours: the loss
# of heatmaps is a few thousandths.
_base_ = 'clips_td-hm_hrnet-w12_toy-sub-jhmdb-96x96.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='TopdownPoseEstimator',
    conversions=_base_.conversions[:1],  # nothing is depthwise
    efficiency_loss=dict(_base_.efficiency_loss, beta=2e-3),
)
optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
