# VA-RED^2 on X3D on toy data. The plain model is trained for as many epochs.
_first = '../{}x3d_w16_8x2x1-10e_toy-kinetics.py'
_tune = '../{}x3d_w16_8x2x1-tune-6e_toy-kinetics.py'
task = 'clips'
seeds = [0, 1, 2]

methods = {
    'plain_stage_1': dict(config=_first.format(''), train=True),
    'plain': dict(
        config=_tune.format(''), weights='plain_stage_1', train=True
    ),
    'va_red2_stage_1': dict(config=_first.format('va-red2_'), train=True),
    'va_red2': dict(
        config=_tune.format('va-red2_'), weights='va_red2_stage_1', train=True
    ),
}
