# Skip-Convolutions with learned gates, and the clips they are trained on.
# Clips of 4 frames are the paper's (Skip-Conv, Section 4.1). Ours, as the
# paper's are lost or differ: beta, the gates' learning rate, the clips of a
# batch, and a memory that does not drift ('previous' is the paper's).
num_frames = 4
beta = 0.2
conversions = [
    dict(
        type='mmskip.SkipConversion',
        gate=dict(type='mmskip.GumbelGate', gate_input='magnitude'),
        memory='accumulated',
    ),
    # A gate of its own would cost a depthwise convolution as much as it
    # saves: these follow their inputs. Threshold 0 changes no result.
    dict(
        type='mmskip.SkipConversion',
        gate=dict(type='mmskip.InputNormGate', threshold=0.0),
        memory='accumulated',
        include=r'.*\.depthwise(_conv)?',
    ),
]
efficiency_loss = dict(type='mmskip.GateCostLoss', beta=beta)
# Gates begin from nothing, their layers do not.
paramwise_cfg = dict(
    custom_keys={'.gate.': dict(lr_mult=300.0, decay_mult=0.0)}
)
# For train_dataloader, in place of the sampler of frames.
clip_loader = dict(
    batch_size=2,  # clips
    sampler=dict(_delete_=True, type='mmskip.ClipSampler', shuffle=True),
    batch_sampler=None,
    collate_fn=dict(type='mmskip.clip_collate'),
)
clip_dataset = dict(
    _delete_=True,
    type='mmskip.ClipDataset',
    num_frames=num_frames,
    windows=dict(type='RandomStart', clips_per_video=128),
)
