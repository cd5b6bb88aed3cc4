# VA-RED^2 on R(2+1)D-18, with its ablation (Tables 4.10 to 4.12 of the thesis)
# on toy data. The plain model is trained for as many epochs.
_first = '../{}r2plus1d_r18-w16_8x2x1-10e_toy-kinetics.py'
_tune = '../{}r2plus1d_r18-w16_8x2x1-tune-6e_toy-kinetics.py'
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
    'no_loss': dict(
        config=_tune.format('va-red2-no-loss_'),
        weights='va_red2_stage_1',
        train=True,
    ),
    **{
        f'{_part}_stage_1': dict(
            config=_first.format(f'va-red2-{_part}_'), train=True
        )
        for _part in ('time', 'channels', '3')
    },
    **{
        _part: dict(
            config=_tune.format(f'va-red2-{_part}_'),
            weights=f'{_part}_stage_1',
            train=True,
        )
        for _part in ('time', 'channels', '3')
    },
}
