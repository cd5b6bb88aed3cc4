// Checks of the arguments that the operators accept.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string_view>

#include "geometry.h"
#include "kernels.h"

namespace mmskip {

// A contiguous int64 tensor on the CPU with a value for each stream, and so
// many scales.
void check_counts(
    const at::Tensor& computed, const at::Tensor& scale, int64_t streams);

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

// The same of float32 or bfloat16.
void check_image(const at::Tensor& tensor, const char* name);

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

GateInput parse_gate_input(std::string_view name);

Activation parse_activation(std::optional<std::string_view> name);

// One filter per channel; it has kernels and a packing of its own.
bool is_depthwise(const Geometry& geometry);

} // namespace mmskip
