# The plain model's checkpoint, made dynamic, tuned with the efficiency loss.
_base_ = 'x3d_w16_8x2x1-tune-24e_toy-kinetics.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    # Pointwise layers hold most of its MACs.
    conversions=[dict(_base_.conversions[0], kernels='all')],
    efficiency_loss=dict(_base_.efficiency_loss, weight=1.2),
)
