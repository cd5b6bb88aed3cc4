# Stage 1 of VA-RED^2 on toy data, from scratch and without efficiency loss;
# plain models are trained with it as well. The numbers are ours.
_base_ = 'adamw_8e.py'
max_epochs = 20
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], T_max=max_epochs),
]
