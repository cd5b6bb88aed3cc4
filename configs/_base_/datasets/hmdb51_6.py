# HMDB51 in 6 frames a video.
_base_ = 'hmdb51.py'
num_segments = 6
first, seed = _base_.hooks
hooks = [dict(first, num_frames=num_segments), seed]
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        pipeline=[
            _base_.init,
            dict(_base_.sample, num_clips=num_segments),
            *_base_.train_steps,
        ]
    ),
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            _base_.init,
            dict(_base_.sample, num_clips=num_segments, test_mode=True),
            *_base_.test_steps,
        ]
    )
)
test_dataloader = val_dataloader
