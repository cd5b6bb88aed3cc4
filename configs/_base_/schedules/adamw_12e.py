# From scratch in twelve epochs; ours.
_base_ = 'adamw_8e.py'
max_epochs = 12
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
