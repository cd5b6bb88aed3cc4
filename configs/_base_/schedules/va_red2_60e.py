# The schedule of Moments in Time: half as long, eight epochs of warm-up.
_base_ = 'va_red2_120e.py'
warm_up_epochs = 8
warm_up, cosine = _base_.param_scheduler
train_cfg = dict(max_epochs=60)
param_scheduler = [
    dict(warm_up, end=warm_up_epochs),
    dict(cosine, begin=warm_up_epochs),
]
