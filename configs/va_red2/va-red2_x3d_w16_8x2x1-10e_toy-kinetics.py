# X3D with dynamic convolutions, stage 1: no efficiency loss.
_base_ = 'x3d_w16_8x2x1-10e_toy-kinetics.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    # Pointwise layers hold most of its MACs.
    conversions=[dict(_base_.conversions[0], kernels='all')],
)
