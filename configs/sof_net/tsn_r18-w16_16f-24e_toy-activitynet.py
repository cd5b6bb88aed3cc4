# TSN on all frames: SoF-Net's recognizer without policies, which equals the
# stock one.
_base_ = 'sof_r18-w16_16f-24e_toy-activitynet.py'
model = dict(policy=None, early_exit=None, guidance_loss=None)
custom_hooks = [
    dict(type='mmskip.VideoHook'),
    dict(type='mmskip.VideoTimerHook'),
]
