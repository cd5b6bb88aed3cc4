# A baseline that needs the checkpoint of its base: frames in order,
# until a class is certain; no frame stops before the end (FrameExit, online).
_base_ = 'tsn_r50_4xb6-16f-75e_activitynet-168.py'
rho = 0.9  # ours
model = dict(type='mmskip.SoFRecognizer', early_exit=dict(rho=rho, t_min=3))
