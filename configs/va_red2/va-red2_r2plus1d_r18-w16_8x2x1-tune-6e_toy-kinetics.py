# Stage 2: fine-tuned with the efficiency loss.
_base_ = 'va-red2_r2plus1d_r18-w16_8x2x1-10e_toy-kinetics.py'
train_cfg = _base_.tune_train_cfg
optim_wrapper = _base_.tune_optim_wrapper
param_scheduler = _base_.tune_param_scheduler
model = dict(efficiency_loss=_base_.efficiency_loss)
load_from = (
    'work_dirs/va-red2_r2plus1d_r18-w16_8x2x1-10e_toy-kinetics/epoch_10.pth'
)
