# Stage 2 of VA-RED^2 on toy data: fine-tuning with the efficiency loss. The
# thesis trains 120 epochs and tunes 40, from 1/18 of the learning rate of
# R(2+1)D (section 4.1); here 20 and 8, from a quarter: ours.
_base_ = 'adamw_8e.py'
train_cfg = dict(val_interval=4)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
