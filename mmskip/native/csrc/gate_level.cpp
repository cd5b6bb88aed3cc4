#include "gate_level.h"

#include <algorithm>
#include <utility>

#include "arguments.h"
#include "isa.h"

namespace mmskip {
namespace {

// The least level; as in gate_mask.py.
constexpr double kLeast = 1e-6;

} // namespace

template <typename T>
float level(const Signal<T>& signal, const float* norms) {
  const int64_t channels = signal.channels, width = signal.width;
  const int64_t count = signal.rows * (width - 1);
  std::vector<double> sums(channels);
  // Floats are enough for a row.
  std::vector<float> of_row(channels);
  for (int64_t row = 0; row < signal.rows; ++row) {
    image_kernels<T>().sum_steps(
        signal.first + row * signal.step, width, channels, of_row.data());
    for (int64_t c = 0; c < channels; ++c) {
      sums[c] += of_row[c];
    }
  }
  double power = 0;
  for (int64_t c = 0; c < channels; ++c) {
    const double mean =
        sums[c] * signal.unit / std::max<int64_t>(count, 1);
    const double share = mean / (norms == nullptr ? 1 : norms[c]);
    power += share * share;
  }
  return static_cast<float>(std::max(std::sqrt(power / channels), kLeast));
}

template float level(const Signal<float>&, const float*);
template float level(const Signal<BFloat16>&, const float*);
template float level(const Signal<uint8_t>&, const float*);

GateLevel::GateLevel(
    const Layer& layer,
    const Geometry& geometry,
    at::Tensor scale,
    std::optional<at::Tensor> computed)
    : scale_(std::move(scale)), computed_(std::move(computed)) {
  check_floats(scale_, "scale");
  TORCH_CHECK_VALUE(
      scale_.is_contiguous() &&
          (scale_.numel() == 1 || scale_.numel() == geometry.streams),
      "expected one scale, or contiguous ones for each of ",
      geometry.streams, " streams, got shape ", scale_.sizes());
  if (computed_) {
    check_counts(*computed_, scale_, geometry.streams);
  } else {
    TORCH_CHECK_VALUE(
        !layer.gate->norms,
        "expected computed to remember, which a gate with norms counts, got "
        "none");
  }
}

Rule GateLevel::rule(const Layer& layer, const Geometry& geometry) const {
  const Gate& gate = *layer.gate;
  const uint8_t* forced = nullptr;
  if (layer.forced) {
    const std::vector<int64_t> expected{
        geometry.out_height, geometry.out_width};
    TORCH_CHECK_VALUE(
        layer.forced->sizes() == at::IntArrayRef(expected),
        "expected a forced mask of shape ", at::IntArrayRef(expected),
        ", got ", layer.forced->sizes());
    forced =
        reinterpret_cast<const uint8_t*>(layer.forced->const_data_ptr<bool>());
  }
  return {
      gate.threshold,
      gate.order,
      scale_.const_data_ptr<float>(),
      scale_.numel() > 1,
      gate.bias ? gate.bias->const_data_ptr<float>() : nullptr,
      forced};
}

} // namespace mmskip
