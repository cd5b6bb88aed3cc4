# The plain model, tuned once more, for as long as the dynamic one.
_base_ = 'x3d_w16_8x2x1-tune-14e_toy-kinetics.py'
train_cfg = _base_.longer_train_cfg
param_scheduler = _base_.longer_param_scheduler
load_from = 'work_dirs/x3d_w16_8x2x1-tune-14e_toy-kinetics/epoch_14.pth'
