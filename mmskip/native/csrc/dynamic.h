// Operators of dynamic convolutions, in inference.
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace mmskip {

// The weights (N, S_t + S_c) of the options that a gate leaves open for clips
// (N, C, T, H, W) or images; if it leaves none open on an axis, the last one,
// the smallest, has the weight 1. `time` is S_t. The other arguments are the
// layers of SoftModulationGate; of its batch norm mean, variance, scale and
// shift, or nothing if it was folded.
at::Tensor soft_gate(
    const at::Tensor& x,
    const at::Tensor& squeeze,
    const std::optional<at::Tensor>& squeeze_bias,
    const c10::List<std::optional<at::Tensor>>& norm,
    double eps,
    const at::Tensor& decide,
    const at::Tensor& beta,
    int64_t time);

// Sums over options and bias (N, C, T, H, W) from what was computed, y: in
// memory (N, C', T', H, W), (N, T', C', H, W), or (N, T', H, W, C'), in which
// the result is then, too; the sources are (computed channel, computed frame)
// for the first, and the other way round for the others. `relu` activates the
// sums. A term's factor is the product over both axes of the sum over used options of their
// weights (N, used) times their table (used, K). An axis is these two, or
// nothing if it is not dynamic. `full` is C and T.
at::Tensor mix_options(
    const at::Tensor& y,
    at::TensorList time,
    at::TensorList channels,
    const at::Tensor& sources,
    const at::Tensor& starts,
    const std::optional<at::Tensor>& bias,
    at::IntArrayRef full,
    bool relu);

} // namespace mmskip
