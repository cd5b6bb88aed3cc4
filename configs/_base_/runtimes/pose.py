# mmpose's runtime, with streams in val and test, and MACs counted.
_base_ = 'mmpose::_base_/default_runtime.py'
default_hooks = dict(
    checkpoint=dict(
        save_best='PCK', rule='greater', interval=1, max_keep_ckpts=3
    )
)
custom_hooks = [
    dict(type='mmskip.VideoHook'),
    *_base_.custom_hooks,
    dict(type='mmskip.IterSeedHook'),
]
