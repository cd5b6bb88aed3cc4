# Row 4 of Table 4.4. (Row 1 is tsn_*, row 5 sof-no-exit_*, row 6 sof_*.)
_base_ = 'sof_r50_4xb6-16f-75e_activitynet-168.py'
model = dict(policy=dict(temporal=False), early_exit=None)
