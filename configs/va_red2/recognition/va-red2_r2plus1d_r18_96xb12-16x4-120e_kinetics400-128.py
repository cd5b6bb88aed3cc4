# VA-RED^2 in R(2+1)D-18 (Table 4.5), before fine-tuning.
_base_ = [
    'r2plus1d_r18_96xb12-16x4-120e_kinetics400-128.py',
    '../../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=_base_.conversions,
)
