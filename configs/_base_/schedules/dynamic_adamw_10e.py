# Schedules of VA-RED^2 on toy data. A plain model is trained from scratch and
# tuned for 14 epochs; what it becomes is made dynamic and tuned with the
# efficiency loss, for longer: after 14 epochs it had lost a point. The thesis
# trains 120 epochs and tunes 40, from 1/18 of the learning rate of R(2+1)D
# (section 4.1); the numbers here are ours.
_base_ = 'adamw_8e.py'
train_cfg = dict(max_epochs=10, val_interval=5)
# For the configs that tune.
tune_train_cfg = dict(max_epochs=24, val_interval=24)
tune_optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    # 532 steps: gates that learn as slowly as the model never close.
    paramwise_cfg=dict(custom_keys=dict(gate=dict(lr_mult=300))),
)
