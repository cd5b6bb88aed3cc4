# A baseline that needs the checkpoint of its base: every second frame.
_base_ = 'tsn_r50_4xb6-16f-75e_activitynet-168.py'
model = dict(
    type='mmskip.SoFRecognizer',
    frame_choice=dict(type='mmskip.EveryKthFrame', k=2),
)
