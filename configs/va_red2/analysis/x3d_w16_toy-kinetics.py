# VA-RED^2 on X3D on toy data: one trained model, tuned plain and dynamic.
_path = '../{}_8x2x1-{}_toy-kinetics.py'
task = 'clips'
seeds = [0, 1, 2]

_tuned = dict(weights='plain', train=True)

methods = {
    'trained': dict(config=_path.format('x3d_w16', '10e'), train=True),
    'plain': dict(
        config=_path.format('x3d_w16', 'tune-14e'),
        weights='trained',
        train=True,
    ),
    'plain_longer': dict(_tuned, config=_path.format('x3d_w16', 'tune-24e')),
    'va_red2': dict(
        _tuned, config=_path.format('va-red2_x3d_w16', 'tune-24e')
    ),
}
