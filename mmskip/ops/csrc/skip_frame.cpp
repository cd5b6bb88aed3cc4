#include "skip_frame.h"

#include <ATen/Parallel.h>

#include <cstring>

#include "arguments.h"
#include "frame.h"

namespace mmskip {
namespace {

// Floats below which a second thread costs more than it saves.
constexpr int64_t kGrain = 1 << 15;

const float* floats(const std::optional<at::Tensor>& tensor) {
  return tensor ? tensor->const_data_ptr<float>() : nullptr;
}

void copy(const float* from, float* to, int64_t count) {
  at::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
    std::memcpy(to + begin, from + begin, (end - begin) * sizeof(float));
  });
}

// Fills the result, in the one pass that a copy takes.
void activate(
    Activation activation, const at::Tensor& output, at::Tensor& result) {
  if (activation == Activation::kReLU) {
    at::clamp_min_out(result, output, 0);
  } else if (activation == Activation::kSiLU) {
    at::silu_out(result, output);
  } else {
    copy(
        output.const_data_ptr<float>(), result.mutable_data_ptr<float>(),
        output.numel());
  }
}

// Updates both memories and fills the mask.
void update(
    Frame& frame,
    const float* x,
    const at::Tensor& weight,
    const std::optional<at::Tensor>& bias,
    bool accumulated,
    at::Tensor& input,
    at::Tensor& output,
    at::Tensor& mask) {
  auto* fired = reinterpret_cast<uint8_t*>(mask.mutable_data_ptr<bool>());
  float* reference = input.mutable_data_ptr<float>();
  frame.compare(x, reference, !accumulated);
  if (frame.rests()) {
    std::memset(fired, 0, mask.numel());
    return;
  }
  frame.decide(fired);
  if (accumulated) {
    frame.send(fired, x, reference);
  }
  frame.list(fired);
  at::Tensor start;
  if (accumulated) {
    start = bias ? *bias : at::zeros({output.size(1)}, output.options());
  }
  frame.accumulate(
      reference,
      weight.const_data_ptr<float>(),
      start.defined() ? start.const_data_ptr<float>() : nullptr,
      output.mutable_data_ptr<float>());
  if (!accumulated) {
    frame.renew(x, reference);
  }
}

} // namespace

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
    std::optional<std::string_view> activation) {
  const Geometry geometry = check_arguments(
      x, input, output, scale, weight, bias, region, kernel_size, stride,
      padding, dilation, groups, block_size, order);
  check_gate(geometry, threshold, gate_weight, gate_bias);
  const Activation applied = parse_activation(activation);
  const at::Tensor seen = x.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor factor = scale.contiguous();
  const Rule rule{
      *threshold.const_data_ptr<float>(),
      static_cast<int>(order),
      factor.const_data_ptr<float>(),
      factor.numel() > 1,
      floats(gate_bias),
      region ? reinterpret_cast<const uint8_t*>(region->const_data_ptr<bool>())
             : nullptr,
      region && region->size(0) > 1};
  // Channels last, one filter is [position][C_in].
  std::optional<at::Tensor> kernel;
  if (gate_weight) {
    kernel = gate_weight->contiguous(at::MemoryFormat::ChannelsLast);
  }
  at::Tensor result = at::empty_like(output);
  at::Tensor mask = at::empty(
      {geometry.streams, 1, geometry.out_height, geometry.out_width},
      output.options().dtype(at::kBool));
  if (output.numel() > 0) {
    Frame frame(
        geometry, rule, {floats(kernel), parse_sight(sees)}, block_size);
    update(
        frame, seen.const_data_ptr<float>(), weight, bias, accumulated,
        input, output, mask);
    activate(applied, output, result);
  }
  return {result, mask};
}

} // namespace mmskip
