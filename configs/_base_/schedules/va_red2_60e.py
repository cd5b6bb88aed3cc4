# The schedule of Moments in Time: half as long, eight epochs of warm-up.
_base_ = 'va_red2_120e.py'
warm_up, cosine = _base_.param_scheduler
train_cfg = dict(max_epochs=60)
param_scheduler = [
    dict(warm_up, end=8),
    dict(cosine, T_max=60 - 8, begin=8, end=60),
]
