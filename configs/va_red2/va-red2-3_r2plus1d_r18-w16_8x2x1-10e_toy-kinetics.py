# Ablation (Table 4.1): a half or a quarter may be computed, stage 1.
_base_ = 'r2plus1d_r18-w16_8x2x1-10e_toy-kinetics.py'
model = dict(
    type='mmskip.ConvertedModel',
    arch='Recognizer3D',
    conversions=[dict(_base_.conversions[0], search_space=3)],
)
