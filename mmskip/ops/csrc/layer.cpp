#include "layer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "arguments.h"

namespace mmskip {
namespace {

// Rows of a map that are enough to tell a level, and the least one; as in
// gate_mask.py.
constexpr int64_t kRows = 32;
constexpr double kLeast = 1e-6;

// How much neighbours in a row differ in a stream's signal, in units of the
// norms: see relative_scale in gate_mask.py.
float level(const at::Tensor& signal, int64_t stream, const float* norms) {
  const int64_t channels = signal.size(1), height = signal.size(2),
                width = signal.size(3);
  const int64_t step = (height + kRows - 1) / kRows;
  const int64_t count = (height + step - 1) / step * (width - 1);
  const float* first =
      signal.const_data_ptr<float>() + stream * height * width * channels;
  std::vector<double> sums(channels);
  for (int64_t h = 0; h < height; h += step) {
    for (int64_t w = 1; w < width; ++w) {
      const float* x = first + (h * width + w) * channels;
      for (int64_t c = 0; c < channels; ++c) {
        sums[c] += std::abs(x[c] - x[c - channels]);
      }
    }
  }
  double power = 0;
  for (int64_t c = 0; c < channels; ++c) {
    const double mean = sums[c] / std::max<int64_t>(count, 1);
    const double share = mean / (norms == nullptr ? 1 : norms[c]);
    power += share * share;
  }
  return static_cast<float>(std::max(std::sqrt(power / channels), kLeast));
}

} // namespace

Layer::Layer(const LayerArguments& a)
    : geometry_(check_arguments(
          a.input, a.output, a.scale, a.weight, a.bias, a.region,
          a.kernel_size, a.stride, a.padding, a.dilation, a.groups,
          a.block_size, a.order)),
      block_size_(a.block_size),
      accumulated_(a.accumulated),
      input_(a.input),
      output_(a.output),
      weight_(a.weight),
      scale_(a.scale.contiguous()),
      computed_(a.computed),
      norms_(a.norms),
      gate_bias_(a.gate_bias),
      region_(a.region),
      activated_(a.activated),
      activation_(a.activation) {
  check_gate(geometry_, a.threshold, a.gate_weight, a.gate_bias);
  check_level(geometry_, a.scale, a.computed, a.norms);
  if (accumulated_) {
    start_ =
        a.bias ? *a.bias : at::zeros({output_.size(1)}, output_.options());
  }
  if (a.gate_weight) {
    // Channels last, one filter is [position][C_in].
    kernel_ = a.gate_weight->contiguous(at::MemoryFormat::ChannelsLast);
    gate_.kernel = kernel_.const_data_ptr<float>();
  }
  if (activated_) {
    check_memory(*activated_, "activated output");
    TORCH_CHECK_VALUE(
        activated_->sizes() == output_.sizes(),
        "expected an activated output of shape ", output_.sizes(), ", got ",
        activated_->sizes());
  }
  gate_.sees = parse_sight(a.sees);
  rule_ = {
      *a.threshold.const_data_ptr<float>(),
      static_cast<int>(a.order),
      scale_.const_data_ptr<float>(),
      scale_.numel() > 1,
      gate_bias_ ? gate_bias_->const_data_ptr<float>() : nullptr,
      region_
          ? reinterpret_cast<const uint8_t*>(region_->const_data_ptr<bool>())
          : nullptr,
      region_ && region_->size(0) > 1};
}

int64_t Layer::num_changed() const {
  return geometry_.streams * geometry_.padded_size();
}

int64_t Layer::num_scores() const {
  return num_changed() * score_maps(geometry_, gate_.kernel != nullptr);
}

std::pair<int64_t, bool> Layer::run(
    const at::Tensor& x, const Residuals& residuals, uint8_t* mask) {
  check_frame(x, input_);
  if (output_.numel() == 0) {
    return {0, false};
  }
  const at::Tensor seen = x.contiguous(at::MemoryFormat::ChannelsLast);
  Frame frame(geometry_, rule_, gate_, residuals, block_size_);
  const int64_t count = update(frame, seen.const_data_ptr<float>(), mask);
  return {count, frame.is_restless()};
}

int64_t Layer::update(Frame& frame, const float* x, uint8_t* mask) {
  float* reference = input_.mutable_data_ptr<float>();
  frame.compare(x, reference, !accumulated_);
  if (frame.rests()) {
    std::memset(mask, 0, geometry_.streams * geometry_.out_size());
    return 0;
  }
  frame.decide(mask);
  if (accumulated_) {
    frame.send(mask, x, reference);
  }
  frame.list(mask);
  frame.accumulate(
      reference,
      weight_.const_data_ptr<float>(),
      accumulated_ ? start_.const_data_ptr<float>() : nullptr,
      output_.mutable_data_ptr<float>(),
      activated_ ? activated_->mutable_data_ptr<float>() : nullptr,
      activation_);
  if (!accumulated_) {
    frame.renew(x, reference);
  }
  renew_level(frame.counts());
  return frame.total();
}

void Layer::renew_level(const std::vector<int64_t>& counts) {
  if (!computed_) {
    return;
  }
  int64_t* computed = computed_->mutable_data_ptr<int64_t>();
  float* scale = scale_.mutable_data_ptr<float>();
  for (size_t n = 0; n < counts.size(); ++n) {
    computed[n] += counts[n];
    if (2 * computed[n] >= geometry_.out_size()) {
      computed[n] = 0;
      scale[n] = 1 /
          (norms_ ? level(output_, n, norms_->const_data_ptr<float>())
                  : level(input_, n, nullptr));
    }
  }
}

} // namespace mmskip
