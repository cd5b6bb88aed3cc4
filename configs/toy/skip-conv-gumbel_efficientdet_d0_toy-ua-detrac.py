# Learned gates: fine-tunes the dense detector, whose checkpoint goes into
# load_from, with --cfg-options model.efficiency_loss.beta= for other costs.
_base_ = 'clips_efficientdet_d0_toy-ua-detrac.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='RetinaNet',
    conversions=_base_.conversions,
    efficiency_loss=_base_.efficiency_loss,
)
