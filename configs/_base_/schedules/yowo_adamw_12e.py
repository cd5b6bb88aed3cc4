# A small YOWO from scratch; ours.
_base_ = 'adamw_12e.py'
optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=20))
