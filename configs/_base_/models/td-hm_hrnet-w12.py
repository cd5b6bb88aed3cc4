# An HRNet for toy data: w12, a stem of 16 channels, one module a stage, two
# blocks a branch. The numbers are ours.
_base_ = 'td-hm_hrnet-w32.py'
two = dict(num_modules=1, num_blocks=(2, 2), num_channels=(12, 24))
three = dict(num_modules=1, num_blocks=(2, 2, 2), num_channels=(12, 24, 48))
four = dict(
    num_modules=1, num_blocks=(2, 2, 2, 2), num_channels=(12, 24, 48, 96)
)
model = dict(
    backbone=dict(
        type='mmskip.NarrowHRNet',
        stem_channels=16,
        extra=dict(
            stage1=dict(num_blocks=(2,), num_channels=(12,)),
            stage2=two,
            stage3=three,
            stage4=four,
        ),
        init_cfg=None,
    ),
    head=dict(in_channels=12),
)
