# VA-RED^2 in TPN on R(2+1)D-18 (Table 4.3), before fine-tuning. The
# auxiliary head only runs in training.
_base_ = [
    'tpn_r2plus1d_r18_96xb12-16x4-120e_mini-kinetics-128.py',
    '../../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=[dict(_base_.conversions[0], exclude=r'neck\.aux_head\..*')],
)
