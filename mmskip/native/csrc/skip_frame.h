// One frame of a Skip-Convolution in one call. Skip-Convolutions for
// Efficient Video Processing (CVPR 2021), Eq. 3.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string_view>
#include <tuple>

#include "layer.h"

namespace mmskip {

// The output, a copy on which the activation was applied, and the mask; input
// and output memory are updated.
std::tuple<at::Tensor, at::Tensor> skip_frame(
    const at::Tensor& x,
    const LayerArguments& arguments,
    std::optional<std::string_view> activation);

} // namespace mmskip
