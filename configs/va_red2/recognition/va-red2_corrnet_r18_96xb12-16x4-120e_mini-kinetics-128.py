# VA-RED^2 in CorrNet on R(2+1)D-18 (Table 4.4), before fine-tuning.
_base_ = [
    'corrnet_r18_96xb12-16x4-120e_mini-kinetics-128.py',
    '../../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=_base_.conversions,
)
