# VA-RED^2 on X3D on toy data: one trained model, tuned plain and dynamic.
_path = '../../../configs/toy/{}x3d_w16_8x2x1-{}_toy-kinetics.py'
task = 'clips'
seeds = [0, 1, 2]

_plain = dict(config=_path.format('', 'tune-24e'), train=True)

methods = {
    'trained': dict(config=_path.format('', '10e'), train=True),
    'plain': dict(
        _plain,
        weights='trained',
        options={'train_cfg.max_epochs': 14, 'train_cfg.val_interval': 7},
    ),
    'plain_longer': dict(_plain, weights='plain'),
    'va_red2': dict(
        config=_path.format('va-red2_', 'tune-24e'),
        weights='plain',
        train=True,
    ),
}
