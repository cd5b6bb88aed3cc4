# X3D with dynamic convolutions, stage 1: no efficiency loss.
_base_ = 'x3d_w16_8x2x1-20e_toy-kinetics.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=_base_.conversions,
)
