# VA-RED^2 in TSN-R50 (Table 4.4), before fine-tuning: channels alone are
# left out, as images have no time axis.
_base_ = [
    'tsn_r50_96xb12-1x1x16-120e_mini-kinetics-224.py',
    '../../_base_/conversions/dynamic.py',
]
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer2D',
    conversions=_base_.conversions,
)
