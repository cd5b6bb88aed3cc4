# As the thesis trains: dynamic from the beginning, the loss in stage 2.
_base_ = 'va-red2_r2plus1d_r18-w16_8x2x1-tune-24e_toy-kinetics.py'
load_from = (
    'work_dirs/va-red2_r2plus1d_r18-w16_8x2x1-10e_toy-kinetics/epoch_10.pth'
)
