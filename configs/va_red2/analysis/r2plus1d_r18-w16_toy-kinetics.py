# VA-RED^2 on R(2+1)D-18, with its ablation (Tables 4.10 to 4.12 of the thesis)
# on toy data: one trained model, tuned plain and dynamic.
_path = '../{}r2plus1d_r18-w16_8x2x1-{}_toy-kinetics.py'
task = 'clips'
seeds = [0, 1, 2]

_tuned = dict(weights='plain', train=True)

methods = {
    'trained': dict(config=_path.format('', '10e'), train=True),
    'plain': dict(
        config=_path.format('', 'tune-14e'), weights='trained', train=True
    ),
    'plain_longer': dict(_tuned, config=_path.format('', 'tune-24e')),
    'va_red2': dict(_tuned, config=_path.format('va-red2_', 'tune-24e')),
    **{
        _part.replace('-', '_'): dict(
            _tuned, config=_path.format(f'va-red2-{_part}_', 'tune-24e')
        )
        for _part in ('no-loss', 'time', 'channels', '3')
    },
    # As the thesis trains: dynamic from the beginning.
    'stage_1': dict(config=_path.format('va-red2_', '10e'), train=True),
    'two_stages': dict(
        config=_path.format('va-red2-two-stages_', 'tune-24e'),
        weights='stage_1',
        train=True,
    ),
}
