# Table 1 of the supplement: TSN-R101 on 25 and on 6 frames of a video of
# HMDB51, split 1. Beta is ours; nobody has tuned it.
_path = (
    '../../../configs/skip_conv/recognition/'
    '{}r101_8xb4-1x1x25-50e_hmdb51-rgb.py'
)
_frames = {
    '25 frames': {},
    '6 frames': {
        'train_dataloader.batch_size': 16,
        **{
            f'{_part}_dataloader.dataset.pipeline.1.num_clips': 6
            for _part in ('train', 'val', 'test')
        },
        'custom_hooks.0.num_frames': 6,
    },
}
task = 'frames'
seeds = [0]

methods = dict(
    dense=dict(
        config=_path.format('tsn_imagenet-pretrained-'),
        train=True,
        settings=_frames,
    ),
    gumbel=dict(
        config=_path.format('skip-conv-gumbel_tsn_'),
        weights='dense',
        train=True,
        settings=_frames,
    ),
)
