# Table 1 of the supplement: TSN-R101 on 25 and on 6 frames of a video of
# HMDB51, split 1. Beta is ours; nobody has tuned it.
_dense = '../recognition/tsn_imagenet-pretrained-r101_8xb{}-50e_hmdb51-rgb.py'
_skip = '../recognition/skip-conv-gumbel_tsn_r101_8xb{}-50e_hmdb51-rgb.py'
_frames = {'25 frames': '4-1x1x25', '6 frames': '16-1x1x6'}
task = 'frames'
seeds = [0]

methods = dict(
    dense=dict(
        train=True,
        settings={
            name: {'config': _dense.format(frames)}
            for name, frames in _frames.items()
        },
    ),
    gumbel=dict(
        weights='dense',
        train=True,
        settings={
            name: {'config': _skip.format(frames)}
            for name, frames in _frames.items()
        },
    ),
)
