# The plain model, tuned for as long as the dynamic one. What it begins with is
# tuned as well, for 14 epochs, by this config with other options: README.md.
_base_ = 'r2plus1d_r18-w16_8x2x1-10e_toy-kinetics.py'
train_cfg = _base_.tune_train_cfg
optim_wrapper = _base_.tune_optim_wrapper
load_from = (
    'work_dirs/r2plus1d_r18-w16_8x2x1-tune-14e_toy-kinetics/epoch_14.pth'
)
