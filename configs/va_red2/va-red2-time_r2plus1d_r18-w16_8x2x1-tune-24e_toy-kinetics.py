# Ablation (Tables 4.11 and 4.12): only frames are left out.
_base_ = 'va-red2_r2plus1d_r18-w16_8x2x1-tune-24e_toy-kinetics.py'
model = dict(conversions=[dict(_base_.conversions[0], channels=False)])
