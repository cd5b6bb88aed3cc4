# The fine-tuning with the efficiency loss (section 4.3). No warm-up (ours).
_base_ = 'va-red2_tpn_slowonly_r50_96xb12-16x4-120e_mini-kinetics-256.py'
model = dict(efficiency_loss=_base_.efficiency_loss)
train_cfg = dict(max_epochs=40)
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = [dict(_base_.param_scheduler[1], T_max=40, begin=0, end=40)]
load_from = (
    'work_dirs/va-red2_tpn_slowonly_r50_96xb12-16x4-120e_mini-kinetics-256/'
    'epoch_120.pth'
)
