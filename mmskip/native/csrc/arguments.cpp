#include "arguments.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
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

void check_memory(const at::Tensor& tensor, const char* name) {
  check_floats(tensor, name);
  check_image(tensor, name);
}

void check_image(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK_TYPE(
      tensor.device().is_cpu() &&
          (tensor.scalar_type() == at::kFloat ||
           tensor.scalar_type() == at::kBFloat16),
      "expected ", name, " of float32 or bfloat16 on the CPU, got ",
      tensor.scalar_type(), " on ", tensor.device());
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

void check_counts(
    const at::Tensor& computed, const at::Tensor& scale, int64_t streams) {
  TORCH_CHECK_VALUE(
      computed.scalar_type() == at::kLong && computed.device().is_cpu() &&
          computed.is_contiguous() && computed.numel() == streams &&
          scale.numel() == streams,
      "expected scale and contiguous computed (int64) on the CPU with one ",
      "value for each of ", streams, " streams, got ", scale.sizes(),
      " and ", computed.scalar_type(), " of ", computed.sizes());
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

GateInput parse_gate_input(std::string_view name) {
  if (name == "residual") {
    return GateInput::kResidual;
  }
  if (name == "magnitude") {
    return GateInput::kMagnitude;
  }
  if (name == "square") {
    return GateInput::kSquare;
  }
  TORCH_CHECK_VALUE(
      name == "frame",
      "expected a gate's input 'residual', 'magnitude', 'square' or 'frame', "
      "got '", name, "'");
  return GateInput::kFrame;
}

Activation parse_activation(std::optional<std::string_view> name) {
  using Kind = ActivationKind;
  if (!name) {
    return {};
  }
  constexpr std::string_view leaky = "leaky_relu:";
  if (name->substr(0, leaky.size()) == leaky) {
    const std::string slope(name->substr(leaky.size()));
    return {Kind::kLeakyReLU, std::strtof(slope.c_str(), nullptr)};
  }
  constexpr std::pair<std::string_view, Kind> known[] = {
      {"relu", Kind::kReLU},
      {"silu", Kind::kSiLU},
      {"relu6", Kind::kReLU6},
      {"hardswish", Kind::kHardswish},
  };
  for (const auto& [its_name, kind] : known) {
    if (*name == its_name) {
      return {kind};
    }
  }
  TORCH_CHECK_VALUE(
      false, "expected activation 'relu', 'silu', 'relu6', 'hardswish', "
      "'leaky_relu:SLOPE' or none, got '", *name, "'");
}

bool is_depthwise(const Geometry& g) {
  return g.groups > 1 && g.groups == g.in_channels &&
      g.groups == g.out_channels;
}

} // namespace mmskip
