// In which order images lie in memory.
#pragma once

#include <ATen/ATen.h>

namespace mmskip {

// Whether the channels of a position lie side by side, others apart; see
// layout.py. Of images with one channel, which lie both ways, it is not true.
bool is_channels_last(const at::Tensor& image);

// A float32 image (N, C, H, W) in channels_last; itself if it is.
at::Tensor to_channels_last(const at::Tensor& image);

// An image that is channels last as a contiguous copy.
at::Tensor contiguous_copy(const at::Tensor& image);

} // namespace mmskip
