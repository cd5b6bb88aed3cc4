# Without early termination (Table 4.5). Training is the same: the
# checkpoint of the config below serves both.
_base_ = 'sof_r50_4xb6-16f-75e_activitynet-168.py'
model = dict(early_exit=None)
