# The small TSN, trained on from its checkpoint, which goes into load_from, on
# the schedule of the models with gates, to compare with.
_base_ = 'tsn_r18-w16_1x1x8-12e_toy-hmdb51.py'
optim_wrapper = dict(optimizer=dict(lr=2e-4))
warm_up, decay = _base_.param_scheduler
param_scheduler = [dict(warm_up, end=20), decay]
