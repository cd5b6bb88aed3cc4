# The plain toy, trained for as many epochs as the dynamic one. Learning rates
# are those of the toy recognisers; nobody has tuned them here.
_base_ = 'action-rcnn_r2plus1d_r18-w12_1xb8-8x1-12e_toy-jhmdb.py'
tune_epochs = 6
train_cfg = dict(max_epochs=tune_epochs, val_interval=tune_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    # Gates that learn as slowly as the model never close.
    paramwise_cfg=dict(custom_keys=dict(gate=dict(lr_mult=300))),
)
load_from = (
    'work_dirs/action-rcnn_r2plus1d_r18-w12_1xb8-8x1-12e_toy-jhmdb/'
    'epoch_12.pth'
)
