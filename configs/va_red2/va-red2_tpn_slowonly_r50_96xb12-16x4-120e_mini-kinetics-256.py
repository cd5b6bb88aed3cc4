# VA-RED^2 in TPN on SlowOnly-R50, before fine-tuning. The
# auxiliary head only runs in training.
_base_ = [
    'tpn_slowonly_r50_96xb12-16x4-120e_mini-kinetics-256.py',
    '../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=[dict(_base_.conversions[0], exclude=r'neck\.aux_head\..*')],
)
