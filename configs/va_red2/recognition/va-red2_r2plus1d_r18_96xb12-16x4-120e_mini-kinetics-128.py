# VA-RED^2 in R(2+1)D-18 (Tables 4.1 and 4.2), before fine-tuning.
_base_ = [
    'r2plus1d_r18_96xb12-16x4-120e_mini-kinetics-128.py',
    '../../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=_base_.conversions,
)
