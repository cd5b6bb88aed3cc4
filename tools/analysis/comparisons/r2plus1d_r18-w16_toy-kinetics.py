# VA-RED^2 on R(2+1)D-18, with its ablation (Tables 4.10 to 4.12 of the thesis)
# on toy data: one trained model, tuned plain and dynamic.
_path = '../../../configs/toy/{}r2plus1d_r18-w16_8x2x1-{}_toy-kinetics.py'
task = 'clips'
seeds = [0, 1, 2]

_plain = dict(config=_path.format('', 'tune-24e'), train=True)
_dynamic = dict(
    config=_path.format('va-red2_', 'tune-24e'), weights='plain', train=True
)
_conversion = 'model.conversions.0'

methods = {
    'trained': dict(config=_path.format('', '10e'), train=True),
    'plain': dict(
        _plain,
        weights='trained',
        options={'train_cfg.max_epochs': 14, 'train_cfg.val_interval': 7},
    ),
    'plain_longer': dict(_plain, weights='plain'),
    'va_red2': _dynamic,
    'no_loss': dict(_dynamic, options={'model.efficiency_loss': None}),
    'time': dict(_dynamic, options={f'{_conversion}.channels': False}),
    'channels': dict(_dynamic, options={f'{_conversion}.time': False}),
    '3': dict(_dynamic, options={f'{_conversion}.search_space': 3}),
    # As the thesis trains: dynamic from the beginning, the loss in stage 2.
    'stage_1': dict(config=_path.format('va-red2_', '10e'), train=True),
    'two_stages': dict(_dynamic, weights='stage_1'),
}
