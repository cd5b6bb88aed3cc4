# The plain model's checkpoint, made dynamic, tuned with the efficiency loss.
# README.md has the options of the ablation (Tables 4.10 to 4.12).
_base_ = 'r2plus1d_r18-w16_8x2x1-tune-24e_toy-kinetics.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=_base_.conversions,
    efficiency_loss=dict(_base_.efficiency_loss, weight=1.2),
)
