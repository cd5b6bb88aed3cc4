# The plain model, trained for as many epochs as the dynamic one.
_base_ = [
    'r2plus1d_r18-w16_8x2x1-20e_toy-kinetics.py',
    '../_base_/schedules/dynamic_adamw_tune_8e.py',
]
load_from = 'work_dirs/r2plus1d_r18-w16_8x2x1-20e_toy-kinetics/epoch_20.pth'
