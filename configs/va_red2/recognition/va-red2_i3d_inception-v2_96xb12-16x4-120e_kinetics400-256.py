# VA-RED^2 in I3D on Inception-V2 (Table 4.5), before fine-tuning.
_base_ = [
    'i3d_inception-v2_96xb12-16x4-120e_kinetics400-256.py',
    '../../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=_base_.conversions,
)
