# VA-RED^2 in X3D-M (Table 4.5), before fine-tuning.
_base_ = [
    'x3d_m_96xb12-16x5-120e_kinetics400-256.py',
    '../../_base_/conversions/dynamic_all.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=_base_.conversions,
)
