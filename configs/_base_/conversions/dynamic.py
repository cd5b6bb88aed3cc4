# VA-RED^2. lambda_e is that of the thesis (section 4.1).
conversions = [dict(type='mmskip.DynamicConversion', search_space=2)]
efficiency_loss = dict(type='mmskip.DynamicCostLoss', weight=0.8)
