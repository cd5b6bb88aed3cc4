# R(2+1)D-18 with dynamic convolutions, stage 1: no efficiency loss.
_base_ = 'r2plus1d_r18-w16_8x2x1-10e_toy-kinetics.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=_base_.conversions,
)
