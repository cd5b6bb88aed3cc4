// What the operators accept.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string_view>

#include "geometry.h"
#include "kernels.h"

namespace mmskip {

// The geometry of a call whose arguments are as they should be; else throws
// with what was expected and what came.
Geometry check_arguments(
    const at::Tensor& input,
    const at::Tensor& output,
    const at::Tensor& scale,
    const at::Tensor& weight,
    const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& region,
    at::IntArrayRef kernel_size,
    at::IntArrayRef stride,
    at::IntArrayRef padding,
    at::IntArrayRef dilation,
    int64_t groups,
    int64_t block_size,
    int64_t order);

// The same for the parts of a gate; weight and bias are of a learned one.
void check_gate(
    const Geometry& geometry,
    const at::Tensor& threshold,
    const std::optional<at::Tensor>& weight,
    const std::optional<at::Tensor>& bias);

// The same for what a relative gate follows its level by.
void check_level(
    const Geometry& geometry,
    const at::Tensor& scale,
    const std::optional<at::Tensor>& computed,
    const std::optional<at::Tensor>& norms);

// A frame is like what is remembered of one.
void check_frame(const at::Tensor& x, const at::Tensor& input);

// A contiguous map (N, 1, H, W) of bool.
void check_map(
    const at::Tensor& map,
    int64_t streams,
    int64_t height,
    int64_t width,
    const char* name);

// A float32 tensor (N, C, H, W) on the CPU, contiguous in channels_last.
void check_memory(const at::Tensor& tensor, const char* name);

// A float32 tensor on the CPU.
void check_floats(const at::Tensor& tensor, const char* name);

// A contiguous float32 tensor (C) on the CPU.
void check_channels(
    const at::Tensor& tensor, int64_t channels, const char* name);

// A list of so many values.
void check_list(
    at::IntArrayRef list, size_t length, int64_t least, const char* name);

// How many times larger the result is than an image that is to be enlarged to
// it, the same whole number in both directions.
int64_t check_factor(const at::Tensor& image, const at::Tensor& result);

Sight parse_sight(std::string_view name);

Activation parse_activation(std::optional<std::string_view> name);

// One filter per channel; it has kernels and a packing of its own.
bool is_depthwise(const Geometry& geometry);

// Elements of a packed weight.
int64_t packed_size(const Geometry& geometry);

} // namespace mmskip
