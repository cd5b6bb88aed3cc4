# A baseline that needs the checkpoint of the config below: random frames, as
# many as SoF-Net's MACs pay for (to be set for an equal cost).
_base_ = 'tsn_r18-w16_16f-16e_toy-activitynet.py'
num_frames = 9  # of 16; ours
model = dict(
    type='mmskip.SoFRecognizer',
    frame_choice=dict(type='mmskip.RandomFrames', num_frames=num_frames),
)
