// The steps of a plan that pool images.
#include <algorithm>
#include <vector>

#include "arguments.h"
#include "plan.h"
#include "frame.h"
#include "share_rows.h"

namespace mmskip {
namespace {

// In channels_last, if it has the sizes that it had.
at::Tensor image_of(
    const Value& from, at::IntArrayRef sizes, const at::Tensor& result) {
  TORCH_CHECK_TYPE(
      from.tensor.device().is_cpu() &&
          from.tensor.scalar_type() == result.scalar_type(),
      "expected an image of ", result.scalar_type(),
      " as the result, got ", from.tensor.scalar_type(), " on ",
      from.tensor.device());
  TORCH_CHECK_VALUE(
      from.tensor.sizes() == sizes, "expected an image of shape ", sizes,
      ", got ", from.tensor.sizes());
  return from.tensor.contiguous(at::MemoryFormat::ChannelsLast);
}

// True if some results were computed.
template <typename T>
bool pool(PoolStep& step, const at::Tensor& image, const uint8_t* map) {
  const int64_t rows = step.result.size(0) * step.result.size(2);
  std::vector<int32_t> counts(rows);
  const Pool<T> job{
      image.size(2),
      image.size(3),
      image.size(1),
      static_cast<const T*>(image.const_data_ptr()),
      map,
      step.result.size(2),
      step.result.size(3),
      static_cast<T*>(step.result.mutable_data_ptr()),
      reinterpret_cast<uint8_t*>(step.mask.mutable_data_ptr<bool>()),
      step.kernel[0],
      step.kernel[1],
      step.stride[0],
      step.stride[1],
      step.padding[0],
      step.padding[1],
      counts.data()};
  const int64_t row = step.result.size(1) * step.result.size(3) *
      step.kernel[0] * step.kernel[1];
  share_rows(rows, grain_of(row), [&](int64_t begin, int64_t end) {
    image_kernels<T>().pool(job, begin, end);
  });
  return std::any_of(
      counts.begin(), counts.end(), [](int32_t n) { return n > 0; });
}

template <typename T>
void sum_rows(MeanStep& step, const at::Tensor& image, const uint8_t* map) {
  const int64_t channels = image.size(1), width = image.size(3);
  const RowSums<T> job{
      width, channels, static_cast<const T*>(image.const_data_ptr()), map,
      step.sums.data()};
  share_rows(
      image.size(0) * image.size(2), grain_of(width * channels),
      [&](int64_t begin, int64_t end) {
        image_kernels<T>().sum_rows(job, begin, end);
      });
}

// From sums of rows, (N, H, C), to means of images, (N, C).
void take_mean(
    const std::vector<float>& sums, const at::Tensor& image, float* mean) {
  const int64_t channels = image.size(1), height = image.size(2);
  const double size = static_cast<double>(height * image.size(3));
  std::vector<double> total(channels);
  for (int64_t n = 0; n < image.size(0); ++n) {
    std::fill(total.begin(), total.end(), 0.0);
    for (int64_t h = 0; h < height; ++h) {
      const float* row = sums.data() + (n * height + h) * channels;
      for (int64_t c = 0; c < channels; ++c) {
        total[c] += row[c];
      }
    }
    for (int64_t c = 0; c < channels; ++c) {
      mean[n * channels + c] = static_cast<float>(total[c] / size);
    }
  }
}

// Null: anywhere.
const uint8_t* map_of(const Value& from, bool known) {
  const bool mapped = known && from.change == Change::kMapped;
  return mapped ? reinterpret_cast<const uint8_t*>(
                      from.map.const_data_ptr<bool>())
                : nullptr;
}

} // namespace

void Plan::check_pool(const PoolStep& step) const {
  const at::Tensor& image = value(step.source).tensor;
  TORCH_CHECK_VALUE(
      image.dim() == 4 && image.size(0) == step.result.size(0) &&
          image.size(1) == step.result.size(1),
      "expected an image of as many streams and channels as the result, got ",
      image.sizes(), " for ", step.result.sizes());
  for (int64_t i = 0; i < 2; ++i) {
    const int64_t last =
        (step.result.size(2 + i) - 1) * step.stride[i] - step.padding[i];
    TORCH_CHECK_VALUE(
        step.padding[i] < step.kernel[i] && last < image.size(2 + i),
        "expected windows that reach into an image of size ",
        image.size(2 + i), ", got ", step.result.size(2 + i), " of size ",
        step.kernel[i], ", stride ", step.stride[i], " and padding ",
        step.padding[i]);
  }
}

void Plan::run_step(PoolStep& step) {
  const Value& from = value(step.source);
  Value& to = value(step.target);
  to.map = step.mask;
  if (step.known && from.change == Change::kNowhere) {
    to.change = Change::kNowhere;
    return;
  }
  const at::Tensor image = image_of(from, step.sizes, step.result);
  const bool any = step.result.scalar_type() == at::kFloat
      ? pool<float>(step, image, map_of(from, step.known))
      : pool<BFloat16>(step, image, map_of(from, step.known));
  step.known = true;
  to.change = any ? Change::kMapped : Change::kNowhere;
}

void Plan::run_step(MeanStep& step) {
  const Value& from = value(step.source);
  Value& to = value(step.target);
  if (step.known && from.change == Change::kNowhere) {
    to.change = Change::kNowhere;
    return;
  }
  const at::Tensor image = image_of(from, step.sizes, step.result);
  const uint8_t* map = map_of(from, step.known);
  if (step.result.scalar_type() == at::kFloat) {
    sum_rows<float>(step, image, map);
  } else {
    sum_rows<BFloat16>(step, image, map);
  }
  step.known = true;
  const at::Tensor mean =
      at::empty(step.result.sizes(), image.options().dtype(at::kFloat));
  take_mean(step.sums, image, mean.mutable_data_ptr<float>());
  const at::Tensor rounded = mean.to(step.result.scalar_type());
  // Rounded, it may be what it was.
  const bool stays = from.change == Change::kMapped && rounded.equal(step.result);
  step.result.copy_(rounded);
  to.change = stays ? Change::kNowhere : Change::kAnywhere;
}

void Plan::run_step(FactorStep& step) {
  const Value& from = value(step.source);
  Value& to = value(step.target);
  if (step.known && from.change == Change::kNowhere) {
    to.change = Change::kNowhere;
    return;
  }
  const at::Tensor image =
      image_of(from, step.result.sizes(), step.result).to(at::kFloat);
  const at::Tensor found =
      (step.hard ? at::hardsigmoid(image) : at::sigmoid(image))
          .to(step.result.scalar_type());
  const bool same = step.known && found.equal(step.result);
  if (!same) {
    step.result.copy_(found);
  }
  step.known = true;
  to.change = same ? Change::kNowhere : Change::kAnywhere;
}

} // namespace mmskip
