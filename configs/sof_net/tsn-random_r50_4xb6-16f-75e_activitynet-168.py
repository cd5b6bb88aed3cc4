# A baseline that needs the checkpoint of its base: random frames, as
# many as SoF-Net's MACs pay for (to be set for an equal cost).
_base_ = 'tsn_r50_4xb6-16f-75e_activitynet-168.py'
num_frames = 9  # of 16; ours
model = dict(
    type='mmskip.SoFRecognizer',
    frame_choice=dict(type='mmskip.RandomFrames', num_frames=num_frames),
)
