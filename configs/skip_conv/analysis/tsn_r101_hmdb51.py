# Table 1 of the supplement: TSN-R101 on 25 and on 6 frames of a video of
# HMDB51, split 1. Beta is ours; nobody has tuned it.
_path = '../recognition/{}tsn_{}-50e_hmdb51-rgb.py'
_dense = 'imagenet-pretrained-r101_8xb{}'
_frames = {'25 frames': '4-1x1x25', '6 frames': '16-1x1x6'}
task = 'frames'
seeds = [0]

methods = dict(
    dense=dict(
        train=True,
        settings={
            name: {'config': _path.format('', _dense.format(frames))}
            for name, frames in _frames.items()
        },
    ),
    gumbel=dict(
        weights='dense',
        train=True,
        settings={
            name: {
                'config': _path.format(
                    'skip-conv-gumbel_', f'r101_8xb{frames}'
                )
            }
            for name, frames in _frames.items()
        },
    ),
)
