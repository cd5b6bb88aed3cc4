# Ablation (Table 4.10): tuned as long, without the efficiency loss.
_base_ = 'va-red2_r2plus1d_r18-w16_8x2x1-tune-24e_toy-kinetics.py'
model = dict(efficiency_loss=None)
