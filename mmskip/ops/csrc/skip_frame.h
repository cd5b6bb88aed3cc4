// One frame of a Skip-Convolution in one call. Skip-Convolutions for
// Efficient Video Processing (CVPR 2021), Eq. 3.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string_view>
#include <tuple>

namespace mmskip {

// The output, a copy on which the activation was applied, and the mask; input
// and output memory are updated.
std::tuple<at::Tensor, at::Tensor> skip_frame(
    const at::Tensor& x,
    at::Tensor& input,
    at::Tensor& output,
    const at::Tensor& scale,
    const at::Tensor& weight,
    const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& region,
    at::IntArrayRef kernel_size,
    at::IntArrayRef stride,
    at::IntArrayRef padding,
    at::IntArrayRef dilation,
    int64_t groups,
    const at::Tensor& threshold,
    int64_t block_size,
    int64_t order,
    bool accumulated,
    const std::optional<at::Tensor>& gate_weight,
    const std::optional<at::Tensor>& gate_bias,
    std::string_view sees,
    std::optional<std::string_view> activation);

} // namespace mmskip
