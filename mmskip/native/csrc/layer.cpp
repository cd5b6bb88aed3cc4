#include "layer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "arguments.h"
#include "kernels.h"
#include "share_rows.h"

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

void Layer::begin(const at::Tensor& x, const at::Tensor& output) {
  check_frame(x, input_);
  check_frame(output, output_);
  const at::Tensor images[] = {
      x.contiguous(at::MemoryFormat::ChannelsLast),
      output.contiguous(at::MemoryFormat::ChannelsLast)};
  const int64_t channels = output_.size(1), width = output_.size(3);
  const int64_t row_in = input_.size(1) * input_.size(3);
  const int64_t row_out = channels * width;
  const float* from_in = images[0].const_data_ptr<float>();
  float* to_in = input_.mutable_data_ptr<float>();
  share_rows(
      input_.size(0) * input_.size(2), grain_of(row_in),
      [&](int64_t begin, int64_t end) {
        std::memcpy(
            to_in + begin * row_in, from_in + begin * row_in,
            (end - begin) * row_in * sizeof(float));
      });
  const float* from_out = images[1].const_data_ptr<float>();
  float* to_out = output_.mutable_data_ptr<float>();
  const int64_t rows = output_.size(0) * output_.size(2);
  std::vector<uint8_t> mask(activated_ ? rows * width : 0);
  std::vector<int32_t> counts(activated_ ? rows : 0);
  const int64_t factor = 1;
  Sum job{};
  if (activated_) {
    job = {
        output_.size(0), output_.size(2), width, channels, 1, &from_out,
        &factor, 0, nullptr, nullptr, true, nullptr, nullptr, activation_,
        activated_->mutable_data_ptr<float>(), mask.data(), counts.data()};
  }
  // A row is activated while it is near.
  share_rows(rows, grain_of(row_out), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      std::memcpy(
          to_out + row * row_out, from_out + row * row_out,
          row_out * sizeof(float));
      if (activated_) {
        kernels().add(job, row, row + 1);
      }
    }
  });
  if (computed_) {
    computed_->zero_();
    for (int64_t n = 0; n < geometry_.streams; ++n) {
      scale_.mutable_data_ptr<float>()[n] = level_scale(n);
    }
  }
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
      scale[n] = level_scale(n);
    }
  }
}

float Layer::level_scale(int64_t stream) const {
  return 1 /
      (norms_ ? level(output_, stream, norms_->const_data_ptr<float>())
              : level(input_, stream, nullptr));
}

at::Tensor relative_scale(
    const at::Tensor& signal, const std::optional<at::Tensor>& norms) {
  check_memory(signal, "signal");
  if (norms) {
    check_channels(*norms, signal.size(1), "norms");
  }
  at::Tensor scale = at::empty({signal.size(0), 1, 1, 1}, signal.options());
  float* to = scale.mutable_data_ptr<float>();
  for (int64_t n = 0; n < signal.size(0); ++n) {
    to[n] =
        1 / level(signal, n, norms ? norms->const_data_ptr<float>() : nullptr);
  }
  return scale;
}

} // namespace mmskip
