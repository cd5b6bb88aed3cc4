#include "arguments.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace mmskip {

void check_floats(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK_VALUE(
      tensor.device().is_cpu(), "expected ", name, " on the CPU, got it on ",
      tensor.device());
  TORCH_CHECK_TYPE(
      tensor.scalar_type() == at::kFloat, "expected ", name,
      " of dtype float32, got ", tensor.scalar_type());
}

void check_channels(
    const at::Tensor& tensor, int64_t channels, const char* name) {
  check_floats(tensor, name);
  TORCH_CHECK_VALUE(
      tensor.is_contiguous() && tensor.dim() == 1 &&
          tensor.numel() == channels,
      "expected a contiguous ", name, " of shape [", channels, "], got ",
      tensor.sizes());
}

void check_list(
    at::IntArrayRef list, size_t length, int64_t least, const char* name) {
  TORCH_CHECK_VALUE(
      list.size() == length, "expected ", length, " values of ", name,
      ", got ", list);
  for (const int64_t value : list) {
    TORCH_CHECK_VALUE(
        value >= least, "expected ", name, " of at least ", least, ", got ",
        list);
  }
}

namespace {

int64_t out_size(
    int64_t padded, int64_t kernel, int64_t dilation, int64_t stride) {
  const int64_t reach = dilation * (kernel - 1) + 1;
  return padded < reach ? 0 : (padded - reach) / stride + 1;
}

void check_shapes(
    const Geometry& g,
    const at::Tensor& output,
    const at::Tensor& scale,
    const at::Tensor& weight,
    const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& region) {
  const std::vector<int64_t> expected{
      g.streams, g.out_channels, g.out_height, g.out_width};
  TORCH_CHECK_VALUE(
      output.sizes() == at::IntArrayRef(expected),
      "expected output of shape ", at::IntArrayRef(expected), ", got ",
      output.sizes());
  TORCH_CHECK_VALUE(
      g.groups > 0 && g.in_channels % g.groups == 0 &&
          g.out_channels % g.groups == 0,
      "expected groups that divide ", g.in_channels, " input and ",
      g.out_channels, " output channels, got ", g.groups);
  check_floats(weight, "weight");
  TORCH_CHECK_VALUE(
      weight.is_contiguous() && weight.numel() == packed_size(g),
      "expected weight as packed by mmskip::pack_weight for this geometry, ",
      packed_size(g), " values, got shape ", weight.sizes());
  check_floats(scale, "scale");
  TORCH_CHECK_VALUE(
      scale.numel() == 1 || scale.numel() == g.streams,
      "expected one scale, or one for each of ", g.streams,
      " streams, got shape ", scale.sizes());
  if (bias) {
    check_channels(*bias, g.out_channels, "bias");
  }
  if (region) {
    TORCH_CHECK_TYPE(
        region->scalar_type() == at::kBool && region->device().is_cpu(),
        "expected region of dtype bool on the CPU, got ",
        region->scalar_type(), " on ", region->device());
    TORCH_CHECK_VALUE(
        region->is_contiguous() && region->dim() == 4 &&
            (region->size(0) == 1 || region->size(0) == g.streams) &&
            region->size(1) == 1 && region->size(2) == g.out_height &&
            region->size(3) == g.out_width,
        "expected a contiguous region of shape [1 or ", g.streams, ", 1, ",
        g.out_height, ", ", g.out_width, "], got ", region->sizes());
  }
}

} // namespace

void check_memory(const at::Tensor& tensor, const char* name) {
  check_floats(tensor, name);
  TORCH_CHECK_VALUE(
      tensor.dim() == 4, "expected ", name,
      " of 4 dimensions (N, C, H, W), got shape ", tensor.sizes());
  TORCH_CHECK_VALUE(
      tensor.is_contiguous(at::MemoryFormat::ChannelsLast), "expected ", name,
      " to be contiguous in channels_last, got strides ", tensor.strides(),
      " for shape ", tensor.sizes());
}

void check_map(
    const at::Tensor& map,
    int64_t streams,
    int64_t height,
    int64_t width,
    const char* name) {
  TORCH_CHECK_TYPE(
      map.scalar_type() == at::kBool && map.device().is_cpu(), "expected ",
      name, " of dtype bool on the CPU, got ", map.scalar_type(), " on ",
      map.device());
  const std::vector<int64_t> expected{streams, 1, height, width};
  TORCH_CHECK_VALUE(
      map.is_contiguous() && map.sizes() == at::IntArrayRef(expected),
      "expected a contiguous ", name, " of shape ",
      at::IntArrayRef(expected), ", got ", map.sizes());
}

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
    int64_t order) {
  check_memory(input, "input");
  check_memory(output, "output");
  check_list(kernel_size, 2, 1, "kernel_size");
  check_list(stride, 2, 1, "stride");
  check_list(padding, 4, 0, "padding");
  check_list(dilation, 2, 1, "dilation");
  TORCH_CHECK_VALUE(
      block_size == 1 || block_size == 2 || block_size == 4 ||
          block_size == 8,
      "expected block_size 1, 2, 4 or 8, got ", block_size);
  TORCH_CHECK_VALUE(
      order == 1 || order == 2, "expected order 1 or 2, got ", order);
  Geometry g{};
  g.streams = input.size(0);
  g.in_channels = input.size(1);
  g.height = input.size(2);
  g.width = input.size(3);
  g.kernel_height = kernel_size[0];
  g.kernel_width = kernel_size[1];
  g.stride_height = stride[0];
  g.stride_width = stride[1];
  g.top = padding[0];
  g.bottom = padding[1];
  g.left = padding[2];
  g.right = padding[3];
  g.dilation_height = dilation[0];
  g.dilation_width = dilation[1];
  g.groups = groups;
  g.out_channels = output.size(1);
  g.out_height = out_size(
      g.padded_height(), g.kernel_height, g.dilation_height, g.stride_height);
  g.out_width = out_size(
      g.padded_width(), g.kernel_width, g.dilation_width, g.stride_width);
  check_shapes(g, output, scale, weight, bias, region);
  TORCH_CHECK_VALUE(
      output.numel() <= std::numeric_limits<int32_t>::max() &&
          g.streams * g.padded_size() <= std::numeric_limits<int32_t>::max(),
      "expected less than 2^31 outputs, got shape ", output.sizes());
  return g;
}

void check_gate(
    const Geometry& g,
    const at::Tensor& threshold,
    const std::optional<at::Tensor>& weight,
    const std::optional<at::Tensor>& bias) {
  check_floats(threshold, "threshold");
  TORCH_CHECK_VALUE(
      threshold.numel() == 1, "expected a threshold of one value, got shape ",
      threshold.sizes());
  TORCH_CHECK_VALUE(
      weight.has_value() == bias.has_value(),
      "expected both gate_weight and gate_bias of a learned gate, or none, "
      "got one of them");
  if (!weight) {
    return;
  }
  check_floats(*weight, "gate_weight");
  check_floats(*bias, "gate_bias");
  const std::vector<int64_t> expected{
      1, g.in_channels, g.kernel_height, g.kernel_width};
  TORCH_CHECK_VALUE(
      weight->sizes() == at::IntArrayRef(expected),
      "expected gate_weight of shape ", at::IntArrayRef(expected), ", got ",
      weight->sizes());
  TORCH_CHECK_VALUE(
      bias->numel() == 1, "expected gate_bias of one value, got shape ",
      bias->sizes());
}

void check_level(
    const Geometry& g,
    const at::Tensor& scale,
    const std::optional<at::Tensor>& computed,
    const std::optional<at::Tensor>& norms) {
  if (!computed) {
    TORCH_CHECK_VALUE(
        !norms, "expected norms with computed only, got them alone");
    return;
  }
  TORCH_CHECK_VALUE(
      computed->scalar_type() == at::kLong && computed->device().is_cpu() &&
          computed->is_contiguous() && computed->numel() == g.streams &&
          scale.is_contiguous() && scale.numel() == g.streams,
      "expected contiguous scale and computed (int64) on the CPU with one ",
      "value for each of ", g.streams, " streams, got ", scale.sizes(),
      " and ", computed->scalar_type(), " of ", computed->sizes());
  if (norms) {
    check_channels(*norms, g.out_channels, "norms");
  }
}

void check_frame(const at::Tensor& x, const at::Tensor& input) {
  check_floats(x, "x");
  TORCH_CHECK_VALUE(
      x.sizes() == input.sizes(), "expected x of shape ", input.sizes(),
      " as remembered in input, got ", x.sizes());
}

int64_t check_factor(const at::Tensor& image, const at::Tensor& result) {
  const int64_t height = image.size(2), width = image.size(3);
  const int64_t factor =
      height > 0 ? std::max<int64_t>(result.size(2) / height, 1) : 1;
  TORCH_CHECK_VALUE(
      image.size(0) == result.size(0) && image.size(1) == result.size(1) &&
          height * factor == result.size(2) &&
          width * factor == result.size(3),
      "expected images as large as the result, or smaller by a whole factor, "
      "got ", image.sizes(), " for ", result.sizes());
  return factor;
}

Sight parse_sight(std::string_view name) {
  if (name == "residual") {
    return Sight::kResidual;
  }
  if (name == "magnitude") {
    return Sight::kMagnitude;
  }
  TORCH_CHECK_VALUE(
      name == "frame", "expected sees 'residual', 'magnitude' or 'frame', "
      "got '", name, "'");
  return Sight::kFrame;
}

Activation parse_activation(std::optional<std::string_view> name) {
  if (!name) {
    return Activation::kNone;
  }
  if (*name == "relu") {
    return Activation::kReLU;
  }
  TORCH_CHECK_VALUE(
      *name == "silu", "expected activation 'relu', 'silu' or none, got '",
      *name, "'");
  return Activation::kSiLU;
}

bool is_depthwise(const Geometry& g) {
  return g.groups > 1 && g.groups == g.in_channels &&
      g.groups == g.out_channels;
}

int64_t packed_size(const Geometry& g) {
  if (is_depthwise(g)) {
    return g.positions() * g.in_channels;
  }
  const int64_t out = g.out_channels / g.groups;
  const int64_t blocks = g.groups * ((out + kBlock - 1) / kBlock);
  return blocks * g.positions() * (g.in_channels / g.groups) * kBlock;
}

} // namespace mmskip
