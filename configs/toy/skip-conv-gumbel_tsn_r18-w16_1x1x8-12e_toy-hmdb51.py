# Learned gates: fine-tunes the small TSN, whose checkpoint goes into
# load_from, with --cfg-options model.efficiency_loss.beta= for other costs.
_base_ = [
    'finetune_tsn_r18-w16_1x1x8-12e_toy-hmdb51.py',
    '../_base_/conversions/gumbel.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer2D',
    conversions=_base_.conversions[:1],  # nothing is depthwise
    efficiency_loss=dict(_base_.efficiency_loss, beta=0.6),  # ours
)
optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
