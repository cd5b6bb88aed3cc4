# Learned gates in HRNet-w32 on split 3.
_base_ = 'skip-conv-gumbel_td-hm_hrnet-w32_8xb2x8-100e_jhmdb-sub1-256x256.py'
part = dict(dataset=dict(split=3))
train_dataloader = dict(dataset=dict(dataset=dict(split=3)))
val_dataloader = test_dataloader = part
