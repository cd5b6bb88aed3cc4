_base_ = 'sof_r18-w16_16f-16e_toy-activitynet.py'
model = dict(early_exit=None)
