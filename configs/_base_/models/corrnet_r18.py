# CorrNet on R(2+1)D-18 for clips of 16 frames: 60.7 GMAC at 128x128.
_base_ = 'r2plus1d_r18.py'
model = dict(backbone=dict(type='mmskip.CorrNet', num_frames=16))
