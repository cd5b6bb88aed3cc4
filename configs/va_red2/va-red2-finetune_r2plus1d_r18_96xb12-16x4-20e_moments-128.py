# The fine-tuning with the efficiency loss (section 4.3). No warm-up (ours).
_base_ = 'va-red2_r2plus1d_r18_96xb12-16x4-60e_moments-128.py'
model = dict(efficiency_loss=_base_.efficiency_loss)
train_cfg = dict(max_epochs=20)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [dict(_base_.param_scheduler[1], T_max=20, begin=0, end=20)]
load_from = (
    'work_dirs/va-red2_r2plus1d_r18_96xb12-16x4-60e_moments-128/epoch_60.pth'
)
