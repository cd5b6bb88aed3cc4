# A small Swin Transformer before a neck and a head of 48 channels. Windows of
# 4 x 4 tokens divide the maps of a picture of 448 x 256. The sizes are ours,
# for training from scratch.
_base_ = 'retinanet_r18-w32.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=24,
        depths=(2, 2, 2, 2),
        num_heads=(2, 4, 8, 16),
        window_size=4,
        drop_path_rate=0.0,
        out_indices=(1, 2, 3),
    ),
    neck=dict(in_channels=[48, 96, 192], start_level=0, out_channels=48),
    bbox_head=dict(in_channels=48, feat_channels=48),
)
