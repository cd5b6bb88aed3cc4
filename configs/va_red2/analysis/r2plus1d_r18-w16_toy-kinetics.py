# VA-RED^2 on R(2+1)D-18, with its ablation (Tables 4.10 to 4.12 of the thesis)
# on toy data: one trained model, tuned plain and dynamic.
_path = '../{}r2plus1d_r18-w16_8x2x1-{}_toy-kinetics.py'
task = 'clips'
seeds = [0, 1, 2]

methods = {
    'trained': dict(config=_path.format('', '10e'), train=True),
    'plain': dict(
        config=_path.format('', 'tune-14e'), weights='trained', train=True
    ),
    'va_red2': dict(
        config=_path.format('va-red2_', 'tune-14e'),
        weights='trained',
        train=True,
    ),
    **{
        _part.replace('-', '_'): dict(
            config=_path.format(f'va-red2-{_part}_', 'tune-14e'),
            weights='trained',
            train=True,
        )
        for _part in ('no-loss', 'time', 'channels', '3')
    },
    # As the thesis trains: dynamic from the beginning.
    'stage_1': dict(config=_path.format('va-red2_', '10e'), train=True),
    'two_stages': dict(
        config=_path.format('va-red2-two-stages_', 'tune-14e'),
        weights='stage_1',
        train=True,
    ),
}
