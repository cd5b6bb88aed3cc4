# Schedules of VA-RED^2 on toy data. A plain model is trained from scratch and
# tuned; what it becomes is made dynamic and tuned with the efficiency loss,
# for longer: after 14 epochs it had lost a point. The thesis trains 120
# epochs and tunes 40, from 1/18 of the learning rate of R(2+1)D (section
# 4.1); the numbers here are ours.
_base_ = 'adamw_8e.py'
max_epochs = 10
tune_epochs = 14
longer_epochs = 24
tune_lr = 5e-4

train_cfg = dict(max_epochs=max_epochs, val_interval=5)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], T_max=max_epochs),
]
# What tuning changes; its configs take them.
tune_train_cfg = dict(max_epochs=tune_epochs, val_interval=7)
tune_optim_wrapper = dict(
    optimizer=dict(lr=tune_lr),
    # 532 steps: gates that learn as slowly as the model never close.
    paramwise_cfg=dict(custom_keys=dict(gate=dict(lr_mult=300))),
)
tune_param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], T_max=tune_epochs),
]
longer_train_cfg = dict(max_epochs=longer_epochs, val_interval=longer_epochs)
longer_param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], T_max=longer_epochs),
]
