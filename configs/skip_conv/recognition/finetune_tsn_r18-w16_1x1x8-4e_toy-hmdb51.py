# The small TSN, fine-tuned on the schedule of the learned gates, to compare
# with. Its checkpoint goes into load_from.
_base_ = 'tsn_r18-w16_1x1x8-12e_toy-hmdb51.py'
train_cfg = dict(max_epochs=4, val_interval=4)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
warm_up, decay = _base_.param_scheduler
param_scheduler = [dict(warm_up, end=20), dict(decay, T_max=4)]
