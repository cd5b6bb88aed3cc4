# A baseline that needs the checkpoint of the config below: every second
# frame.
_base_ = 'tsn_r18-w16_16f-16e_toy-activitynet.py'
model = dict(
    type='mmskip.SoFRecognizer',
    frame_choice=dict(type='mmskip.EveryKthFrame', k=2),
)
