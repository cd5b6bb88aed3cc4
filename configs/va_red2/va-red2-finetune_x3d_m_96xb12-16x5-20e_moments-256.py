# The fine-tuning with the efficiency loss (section 4.3). No warm-up (ours).
_base_ = 'va-red2_x3d_m_96xb12-16x5-60e_moments-256.py'
model = dict(efficiency_loss=_base_.efficiency_loss)
train_cfg = dict(max_epochs=20)
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = [dict(_base_.param_scheduler[1], T_max=20, begin=0, end=20)]
load_from = 'work_dirs/va-red2_x3d_m_96xb12-16x5-60e_moments-256/epoch_60.pth'
