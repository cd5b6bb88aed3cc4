# VA-RED^2 with two options on each axis: all of the frames or channels, or
# half of them (Tables 4.2 to 4.7). Three: search_space=3.
conversions = [dict(type='mmskip.DynamicConversion', search_space=2)]
