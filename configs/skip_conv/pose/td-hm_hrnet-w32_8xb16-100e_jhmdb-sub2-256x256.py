# HRNet-w32 on split 2 of sub-JHMDB, dense.
_base_ = 'td-hm_hrnet-w32_8xb16-100e_jhmdb-sub1-256x256.py'
part = dict(dataset=dict(split=2))
train_dataloader = val_dataloader = test_dataloader = part
