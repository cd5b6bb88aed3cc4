# A baseline that needs the checkpoint of the config below: frames in order,
# until a class is certain; no frame stops before the end (FrameExit, online).
_base_ = 'tsn_r18-w16_16f-16e_toy-activitynet.py'
rho = 0.9  # ours
model = dict(type='mmskip.SoFRecognizer', early_exit=dict(rho=rho, t_min=3))
