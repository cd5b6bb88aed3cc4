# VA-RED^2 in I3D-R50, before fine-tuning.
_base_ = [
    'i3d_r50_96xb12-16x4-120e_mini-kinetics-256.py',
    '../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=_base_.conversions,
)
