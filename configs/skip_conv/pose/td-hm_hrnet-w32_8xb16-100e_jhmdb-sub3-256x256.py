# HRNet-w32 on split 3 of sub-JHMDB, dense.
_base_ = 'td-hm_hrnet-w32_8xb16-100e_jhmdb-sub1-256x256.py'
part = dict(dataset=dict(split=3))
train_dataloader = val_dataloader = test_dataloader = part
