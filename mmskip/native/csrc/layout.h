// The order in which images lie in memory.
#pragma once

#include <ATen/ATen.h>

namespace mmskip {

// True if the channels of a position lie side by side, others apart; see
// core/layer.py. It is not true of images with one channel, which lie both
// ways.
bool is_channels_last(const at::Tensor& image);

// A float32 image (N, C, H, W) in channels_last; itself if it is.
at::Tensor to_channels_last(const at::Tensor& image);

// An image that is channels last as a contiguous copy.
at::Tensor contiguous_copy(const at::Tensor& image);

// The bytes nearest to the values of a bfloat16 tensor, where byte b stands for
// (b - zero) * step, in the layout that it has.
at::Tensor round_to_bytes(const at::Tensor& values, double step, int64_t zero);

// Values in float32 or bfloat16 as a copy in float32, in the same order.
at::Tensor float_copy(const at::Tensor& values);

} // namespace mmskip
