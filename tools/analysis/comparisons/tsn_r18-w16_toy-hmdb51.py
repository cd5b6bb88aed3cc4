# Gates of Skip-Convolutions in a small TSN on 8 frames of a video: the
# question of Table 1 of the supplement.
_path = '../../../configs/toy/{}tsn_r18-w16_1x1x8-12e_toy-hmdb51.py'
_gate = 'model.conversions.0.gate'
_beta = 'model.efficiency_loss.beta'
_twice = {
    'test_dataloader.dataset.pipeline.1.num_clips': 16,
    'custom_hooks.0.num_frames': 16,
}
task = 'frames'
seeds = [0, 1, 2]

methods = dict(
    pretrained=dict(config=_path.format(''), train=True, seeds=[0]),
    dense=dict(
        config=_path.format('finetune_'),
        weights='pretrained',
        train=True,
    ),
    gumbel=dict(
        config=_path.format('skip-conv-gumbel_'),
        weights='pretrained',
        train=True,
        settings={f'beta {b:g}': {_beta: b} for b in (0.2, 0.6)},
    ),
    output_norm=dict(
        config=_path.format('skip-conv-output-norm_'),
        weights='dense',
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (0.2, 0.4, 0.8)
        },
    ),
    # The same gates, with which the model is trained on.
    output_norm_tuned=dict(
        config=_path.format('skip-conv-output-norm_'),
        weights='pretrained',
        train=True,
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (0.3, 0.34, 0.4)
        },
    ),
    # The same models on twice the frames.
    dense_16=dict(
        config=_path.format('finetune_'),
        weights='dense',
        options=_twice,
    ),
    output_norm_16=dict(
        config=_path.format('skip-conv-output-norm_'),
        weights='dense',
        options=_twice,
        settings={
            f'threshold {t:g}': {f'{_gate}.threshold': t}
            for t in (0.16, 0.2, 0.25)
        },
    ),
)
