# Row 2 of Table 4.4, on toy data.
_base_ = 'sof_r18-w16_16f-16e_toy-activitynet.py'
model = dict(policy=dict(temporal=False), guidance_loss=None, early_exit=None)
