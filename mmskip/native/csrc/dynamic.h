// Operators of dynamic convolutions, in inference.
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace mmskip {

// The weights (N, S_t + S_c) of the options that a gate leaves open for clips
// (N, C, T, H, W) or images; if it leaves none open on an axis, the last one,
// the smallest, has the weight 1. `time` is S_t. The other arguments are the
// layers of SoftModulationGate; its batch norm may have been folded.
at::Tensor soft_gate(
    const at::Tensor& x,
    const at::Tensor& squeeze,
    const std::optional<at::Tensor>& squeeze_bias,
    const std::optional<at::Tensor>& mean,
    const std::optional<at::Tensor>& var,
    const std::optional<at::Tensor>& scale,
    const std::optional<at::Tensor>& shift,
    double eps,
    const at::Tensor& decide,
    const at::Tensor& beta,
    int64_t time);

// Sums over options and bias (N, C, T, H, W) from what was computed, y: (N,
// C', T', H, W) or (N, T', C', H, W) in memory, as the sources say. A term's
// factor is the product over both axes of the sum over used options of their
// weights (N, S) times their table (used, K). No options: the axis is not
// dynamic. `full` is C and T.
at::Tensor mix_options(
    const at::Tensor& y,
    const std::optional<at::Tensor>& time,
    const std::optional<at::Tensor>& time_table,
    at::IntArrayRef time_options,
    const std::optional<at::Tensor>& channels,
    const std::optional<at::Tensor>& channel_table,
    at::IntArrayRef channel_options,
    const at::Tensor& sources,
    const at::Tensor& starts,
    const std::optional<at::Tensor>& bias,
    at::IntArrayRef full);

} // namespace mmskip
