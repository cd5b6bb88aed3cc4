// How a plan takes its steps.
#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "arguments.h"
#include "plan.h"
#include "frame.h"
#include "layout.h"
#include "share_rows.h"

namespace mmskip {
namespace {

const uint8_t* bytes(const at::Tensor& map) {
  return reinterpret_cast<const uint8_t*>(map.const_data_ptr<bool>());
}

uint8_t* bytes(at::Tensor& map) {
  return reinterpret_cast<uint8_t*>(map.mutable_data_ptr<bool>());
}

bool is_any(const std::vector<int32_t>& counts) {
  return std::any_of(
      counts.begin(), counts.end(), [](int32_t n) { return n > 0; });
}

// Copies the channels of positions that have changed, or of all, to where
// they begin in wider images. The image may have any strides.
void copy_channels(
    const at::Tensor& image,
    const uint8_t* changed,
    float* to,
    int64_t step) {
  const int64_t channels = image.size(1), height = image.size(2),
                width = image.size(3), across = image.stride(1);
  const float* from = image.const_data_ptr<float>();
  const int64_t row = std::max<int64_t>(width * channels, 1);
  const int64_t grain = std::max<int64_t>(kGrain / row, 1);
  const auto copy_row = [&](int64_t at) {
    const float* line = from + at / height * image.stride(0) +
        at % height * image.stride(2);
    for (int64_t w = 0; w < width; ++w) {
      if (changed != nullptr && !changed[at * width + w]) {
        continue;
      }
      const float* pixel = line + w * image.stride(3);
      float* begin = to + (at * width + w) * step;
      if (across == 1) {
        std::memcpy(begin, pixel, channels * sizeof(float));
        continue;
      }
      for (int64_t c = 0; c < channels; ++c) {
        begin[c] = pixel[c * across];
      }
    }
  };
  share_rows(
      image.size(0) * height, grain, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; ++at) {
          copy_row(at);
        }
      });
}

} // namespace

void Plan::run_step(ConvStep& step) {
  const Value& from = value(step.source);
  if (from.change == Change::kNowhere && !step.active) {
    if (step.fired > 0) {
      step.mask.zero_();
      step.fired = 0;
    }
  } else {
    const Geometry& g = step.site->geometry();
    std::vector<uint8_t> none;
    const uint8_t* candidates = nullptr;
    if (!step.known || from.change == Change::kAnywhere) {
      std::fill(step.changed.begin(), step.changed.end(), 0);
      std::fill(step.scores.begin(), step.scores.end(), 0.0f);
    } else if (from.change == Change::kMapped) {
      candidates = bytes(from.map);
    } else {
      none.resize(g.streams * g.in_size());
      candidates = none.data();
    }
    std::tie(step.fired, step.active) = step.site->update(
        from.tensor,
        {candidates, step.changed.data(), step.scores.data()},
        step.activated, bytes(step.mask));
    step.known = true;
  }
  Value& to = value(step.target);
  to.change = step.fired > 0 ? Change::kMapped : Change::kNowhere;
  to.map = step.mask;
}

void Plan::begin_step(ConvStep& step) {
  step.site->begin(value(step.source).tensor, step.activated);
  step.mask.fill_(true);
  step.fired = step.mask.numel();
  step.active = true;
  step.known = false;
  value(step.target).change = Change::kAnywhere;
}

void Plan::run_step(FollowStep& step) {
  const at::Tensor& from = value(step.source).tensor;
  check_frame(from, step.copy);
  const at::Tensor image = to_channels_last(from);
  const int64_t rows = image.size(0) * image.size(2);
  const int64_t width = image.size(3), channels = image.size(1);
  std::vector<int32_t> counts(rows);
  const Following job{
      width,
      channels,
      image.const_data_ptr<float>(),
      step.copy.mutable_data_ptr<float>(),
      bytes(step.mask),
      counts.data()};
  const int64_t row = std::max<int64_t>(width * channels, 1);
  share_rows(
      rows, std::max<int64_t>(kGrain / row, 1),
      [&](int64_t begin, int64_t end) { kernels().follow(job, begin, end); });
  Value& to = value(step.target);
  to.change = is_any(counts) ? Change::kMapped : Change::kNowhere;
  to.map = step.mask;
}

void Plan::run_step(SumStep& step) {
  at::Tensor tensors[kMaxTerms];
  const float* images[kMaxTerms];
  const uint8_t* maps[kMaxTerms];
  int64_t map_factors[kMaxTerms];
  int64_t count = 0, num_maps = 0;
  bool everywhere = !step.known;
  for (const int64_t source : step.sources) {
    const Value& from = value(source);
    tensors[count] = from.tensor.contiguous(at::MemoryFormat::ChannelsLast);
    TORCH_CHECK_VALUE(
        check_factor(from.tensor, step.result) == step.factors[count],
        "expected images of the sizes that they had, got ",
        from.tensor.sizes());
    images[count] = tensors[count].const_data_ptr<float>();
    everywhere |= from.change == Change::kAnywhere;
    if (from.change == Change::kMapped) {
      maps[num_maps] = bytes(from.map);
      map_factors[num_maps++] = step.factors[count];
    }
    ++count;
  }
  Value& to = value(step.target);
  to.map = step.mask;
  if (num_maps == 0 && !everywhere) {
    to.change = Change::kNowhere;
    return;
  }
  const int64_t streams = step.result.size(0), channels = step.result.size(1);
  const int64_t height = step.result.size(2), width = step.result.size(3);
  std::vector<int32_t> counts(streams * height);
  const Sum job{
      streams,
      height,
      width,
      channels,
      count,
      images,
      step.factors.data(),
      num_maps,
      maps,
      map_factors,
      everywhere,
      step.scale ? step.scale->const_data_ptr<float>() : nullptr,
      step.shift ? step.shift->const_data_ptr<float>() : nullptr,
      step.activation,
      step.result.mutable_data_ptr<float>(),
      bytes(step.mask),
      counts.data()};
  const int64_t row = std::max<int64_t>(width * channels * count, 1);
  const int64_t grain = std::max<int64_t>(kGrain / row, 1);
  share_rows(
      streams * height, grain, [&](int64_t begin, int64_t end) {
        kernels().add(job, begin, end);
      });
  step.known = true;
  to.change = is_any(counts) ? Change::kMapped : Change::kNowhere;
}

void Plan::check_join(const JoinStep& step) const {
  int64_t channels = 0;
  for (const int64_t source : step.sources) {
    const at::Tensor& image = value(source).tensor;
    TORCH_CHECK_VALUE(
        image.dim() == 4 && image.size(0) == step.result.size(0) &&
            image.size(2) == step.result.size(2) &&
            image.size(3) == step.result.size(3),
        "expected images as large as the result, got ", image.sizes(),
        " for ", step.result.sizes());
    channels += image.size(1);
  }
  TORCH_CHECK_VALUE(
      channels == step.result.size(1), "expected ", step.result.size(1),
      " channels altogether, got ", channels);
}

void Plan::run_step(JoinStep& step) {
  const int64_t channels = step.result.size(1);
  float* result = step.result.mutable_data_ptr<float>();
  uint8_t* mask = bytes(step.mask);
  const int64_t positions = step.mask.numel();
  Change joined = Change::kNowhere;
  int64_t first = 0;
  check_join(step);
  for (const int64_t source : step.sources) {
    const Value& from = value(source);
    const Change change = step.known ? from.change : Change::kAnywhere;
    if (change != Change::kNowhere) {
      const uint8_t* map =
          change == Change::kMapped ? bytes(from.map) : nullptr;
      copy_channels(from.tensor, map, result + first, channels);
      if (joined == Change::kNowhere) {
        step.mask.zero_();
      }
      for (int64_t i = 0; map != nullptr && i < positions; ++i) {
        mask[i] |= map[i];
      }
      joined = std::max(joined, change);
    }
    first += from.tensor.size(1);
  }
  step.known = true;
  value(step.target).change = joined;
  value(step.target).map = step.mask;
}

} // namespace mmskip
