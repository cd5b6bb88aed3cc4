// How a plan takes its steps.
#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "arguments.h"
#include "plan.h"
#include "frame.h"
#include "layout.h"
#include "runs.h"
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

void check_type(const at::Tensor& image, const at::Tensor& result) {
  TORCH_CHECK_TYPE(
      image.device().is_cpu() && image.scalar_type() == result.scalar_type(),
      "expected images of ", result.scalar_type(), " as the result, got ",
      image.scalar_type(), " on ", image.device());
}

// Pixels of a row of an image, and where they go in a row of a wider one.
template <typename T>
struct RowCopy {
  const T* from;
  // From one pixel to the next, and from one channel to the next.
  int64_t beside, across;
  T* to;
  int64_t step;
  int64_t channels;
};

// Copies pixels that are set in a map, or all. With so few channels that a call
// would take longer than the copy, their number is `few`; otherwise it is 0.
template <int few, typename T>
void copy_pixels(const RowCopy<T>& row, const uint8_t* map, int64_t width) {
  const auto copy = [&](int64_t w) {
    const T* pixel = row.from + w * row.beside;
    T* to = row.to + w * row.step;
    if (row.across == 1) {
      std::memcpy(to, pixel, (few > 0 ? few : row.channels) * sizeof(T));
      return;
    }
    for (int64_t c = 0; c < row.channels; ++c) {
      to[c] = pixel[c * row.across];
    }
  };
  if (map != nullptr) {
    for_each_set(map, width, copy);
    return;
  }
  for (int64_t w = 0; w < width; ++w) {
    copy(w);
  }
}

template <typename T>
void copy_row(const RowCopy<T>& row, const uint8_t* map, int64_t width) {
  switch (row.channels) {
    case 1:
      return copy_pixels<1>(row, map, width);
    case 3:
      return copy_pixels<3>(row, map, width);
    case 4:
      return copy_pixels<4>(row, map, width);
    case 8:
      return copy_pixels<8>(row, map, width);
    case 16:
      return copy_pixels<16>(row, map, width);
    case 32:
      return copy_pixels<32>(row, map, width);
    default:
      return copy_pixels<0>(row, map, width);
  }
}

// Copies some rows and columns of a map; returns whether any of it is set.
bool crop_map(const uint8_t* from, int64_t height, int64_t width,
              const CropStep& step, at::Tensor& mask) {
  const std::vector<int64_t>&rows = step.rows, &columns = step.columns;
  const int64_t out_width = mask.size(3);
  bool any = false;
  for (int64_t row = 0; row < mask.size(0) * mask.size(2); ++row) {
    const int64_t h = rows[0] + row % mask.size(2) * rows[2];
    const uint8_t* line = from + (row / mask.size(2) * height + h) * width;
    uint8_t* to = bytes(mask) + row * out_width;
    if (std::memchr(line, 1, width) == nullptr) {
      std::memset(to, 0, out_width);
      continue;
    }
    int64_t w = 0;
    // Every other one of eight, packed in three steps.
    for (; columns[2] == 2 && columns[0] + 2 * w + 8 <= width &&
         w + 4 <= out_width;
         w += 4) {
      uint64_t eight;
      std::memcpy(&eight, line + columns[0] + 2 * w, sizeof(eight));
      eight &= UINT64_C(0x00ff00ff00ff00ff);
      eight = (eight | eight >> 8) & UINT64_C(0x0000ffff0000ffff);
      const uint32_t four = static_cast<uint32_t>(eight | eight >> 16);
      std::memcpy(to + w, &four, sizeof(four));
    }
    for (; w < out_width; ++w) {
      to[w] = line[columns[0] + w * columns[2]];
    }
    any = any || std::memchr(to, 1, out_width) != nullptr;
  }
  return any;
}

// Copies the channels of positions that have changed, or of all, to where
// they begin in wider images. The image may have any strides.
template <typename T>
void copy_channels(
    const at::Tensor& image, const uint8_t* changed, T* to, int64_t step) {
  const int64_t channels = image.size(1), height = image.size(2),
                width = image.size(3), across = image.stride(1),
                beside = image.stride(3);
  const T* from = static_cast<const T*>(image.const_data_ptr());
  share_rows(
      image.size(0) * height, grain_of(width * channels),
      [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; ++at) {
          const T* line = from + at / height * image.stride(0) +
              at % height * image.stride(2);
          copy_row<T>(
              {line, beside, across, to + at * width * step, step, channels},
              changed == nullptr ? nullptr : changed + at * width, width);
        }
      });
}

} // namespace

template <typename Update>
void Plan::update_conv(
    int64_t source,
    int64_t target,
    const Geometry& g,
    ChangeMemory& memory,
    const Update& update) {
  const Value& from = value(source);
  if (from.change == Change::kNowhere && !memory.active) {
    if (memory.fired > 0) {
      memory.mask.zero_();
      memory.fired = 0;
    }
  } else {
    std::vector<uint8_t> none;
    const uint8_t* candidates = nullptr;
    if (!memory.known || from.change == Change::kAnywhere) {
      std::fill(memory.changed.begin(), memory.changed.end(), 0);
      std::fill(memory.scores.begin(), memory.scores.end(), 0.0f);
    } else if (from.change == Change::kMapped) {
      candidates = bytes(from.map);
    } else {
      none.resize(g.streams * g.in_size());
      candidates = none.data();
    }
    std::tie(memory.fired, memory.active) = update(
        from.tensor,
        Residuals{candidates, memory.changed.data(), memory.scores.data()},
        bytes(memory.mask));
    memory.known = true;
  }
  Value& to = value(target);
  to.change = memory.fired > 0 ? Change::kMapped : Change::kNowhere;
  to.map = memory.mask;
}

void Plan::run_step(ConvStep& step) {
  update_conv(
      step.source, step.target, step.site->geometry(), step.memory,
      [&](const at::Tensor& x, const Residuals& residuals, uint8_t* mask) {
        return step.site->update(x, residuals, step.activated, mask);
      });
}

void Plan::run_step(PlannedStep& step) {
  update_conv(
      step.source, step.target, step.site->geometry(), step.memory,
      [&](const at::Tensor& x, const Residuals& residuals, uint8_t* mask) {
        return step.site->update(x, residuals, step.result, mask);
      });
}

void Plan::begin_step(ConvStep& step) {
  step.site->begin(value(step.source).tensor, step.activated);
  step.memory.begin();
  value(step.target).change = Change::kAnywhere;
}

void Plan::begin_step(PlannedStep& step) {
  step.site->begin(value(step.source).tensor, step.result);
  step.memory.begin();
  value(step.target).change = Change::kAnywhere;
}

void Plan::run_step(FollowStep& step) {
  const at::Tensor& from = value(step.source).tensor;
  check_floats(from, "image");
  TORCH_CHECK_VALUE(
      from.sizes() == step.copy.sizes(), "expected an image of shape ",
      step.copy.sizes(), ", got ", from.sizes());
  if (step.copy.scalar_type() == at::kFloat) {
    follow<float>(step);
  } else {
    follow<BFloat16>(step);
  }
}

template <typename T>
void Plan::follow(FollowStep& step) {
  const at::Tensor image = to_channels_last(value(step.source).tensor);
  const int64_t rows = image.size(0) * image.size(2);
  const int64_t width = image.size(3), channels = image.size(1);
  std::vector<int32_t> counts(rows);
  const Following<T> job{
      width,
      channels,
      image.const_data_ptr<float>(),
      static_cast<T*>(step.copy.mutable_data_ptr()),
      bytes(step.mask),
      counts.data()};
  share_rows(
      rows, grain_of(width * channels), [&](int64_t begin, int64_t end) {
        image_kernels<T>().follow(job, begin, end);
      });
  Value& to = value(step.target);
  to.change = is_any(counts) ? Change::kMapped : Change::kNowhere;
  to.map = step.mask;
}

void Plan::run_step(SumStep& step) {
  if (step.result.scalar_type() == at::kFloat) {
    add<float>(step);
  } else {
    add<BFloat16>(step);
  }
}

template <typename T>
void Plan::add(SumStep& step) {
  at::Tensor tensors[kMaxTerms];
  const T* images[kMaxTerms];
  const uint8_t* maps[kMaxTerms];
  int64_t map_factors[kMaxTerms];
  int64_t count = 0, num_maps = 0;
  bool everywhere = !step.known;
  for (const int64_t source : step.sources) {
    const Value& from = value(source);
    check_type(from.tensor, step.result);
    tensors[count] = from.tensor.contiguous(at::MemoryFormat::ChannelsLast);
    TORCH_CHECK_VALUE(
        check_factor(from.tensor, step.result) == step.factors[count],
        "expected images of the sizes that they had, got ",
        from.tensor.sizes());
    images[count] = static_cast<const T*>(tensors[count].const_data_ptr());
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
  const Sum<T> job{
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
      static_cast<T*>(step.result.mutable_data_ptr()),
      bytes(step.mask),
      counts.data()};
  share_rows(
      streams * height, grain_of(width * channels * count),
      [&](int64_t begin, int64_t end) {
        image_kernels<T>().add(job, begin, end);
      });
  step.known = true;
  to.change = is_any(counts) ? Change::kMapped : Change::kNowhere;
}

void Plan::run_step(ScaleStep& step) {
  const Value& from = value(step.source);
  const Value& by = value(step.factor);
  Value& to = value(step.target);
  to.map = step.mask;
  const bool everywhere = !step.known || by.change != Change::kNowhere ||
      from.change == Change::kAnywhere;
  if (!everywhere && from.change == Change::kNowhere) {
    to.change = Change::kNowhere;
    return;
  }
  check_type(from.tensor, step.result);
  const at::Tensor& result = step.result;
  const std::vector<int64_t> factors{result.size(0), result.size(1), 1, 1};
  TORCH_CHECK_VALUE(
      from.tensor.sizes() == result.sizes() &&
          by.tensor.sizes() == at::IntArrayRef(factors),
      "expected an image of shape ", result.sizes(), " and factors ",
      at::IntArrayRef(factors), ", got ", from.tensor.sizes(), " and ",
      by.tensor.sizes());
  const uint8_t* map = everywhere ? nullptr : bytes(from.map);
  const bool any = result.scalar_type() == at::kFloat
      ? scale<float>(step, map)
      : scale<BFloat16>(step, map);
  step.known = true;
  to.change = any ? Change::kMapped : Change::kNowhere;
}

template <typename T>
bool Plan::scale(ScaleStep& step, const uint8_t* map) {
  const at::Tensor image = value(step.source)
                               .tensor.contiguous(
                                   at::MemoryFormat::ChannelsLast);
  const at::Tensor factors =
      value(step.factor).tensor.to(at::kFloat).contiguous();
  const int64_t channels = image.size(1), height = image.size(2),
                width = image.size(3), size = height * width;
  const std::vector<float> zeros(channels);
  const int64_t same = 1;
  bool any = false;
  for (int64_t n = 0; n < image.size(0); ++n) {
    const T* from =
        static_cast<const T*>(image.const_data_ptr()) + n * size * channels;
    const uint8_t* own = map == nullptr ? nullptr : map + n * size;
    std::vector<int32_t> counts(height);
    const Sum<T> job{
        1,
        height,
        width,
        channels,
        1,
        &from,
        &same,
        own == nullptr ? 0 : 1,
        &own,
        &same,
        own == nullptr,
        factors.const_data_ptr<float>() + n * channels,
        zeros.data(),
        Activation{},
        static_cast<T*>(step.result.mutable_data_ptr()) + n * size * channels,
        bytes(step.mask) + n * size,
        counts.data()};
    share_rows(
        height, grain_of(width * channels), [&](int64_t begin, int64_t end) {
          image_kernels<T>().add(job, begin, end);
        });
    any |= is_any(counts);
  }
  return any;
}

at::Tensor crop(const at::Tensor& image, const CropStep& step) {
  const std::vector<int64_t>&r = step.rows, &c = step.columns;
  return image.slice(2, r[0], r[1], r[2]).slice(3, c[0], c[1], c[2]);
}

void Plan::run_step(CropStep& step) {
  const Value& from = value(step.source);
  Value& to = value(step.target);
  to.tensor = crop(from.tensor, step);
  to.change = from.change;
  if (from.change != Change::kMapped) {
    return;
  }
  to.map = step.mask;
  if (!crop_map(
          bytes(from.map), from.tensor.size(2), from.tensor.size(3), step,
          step.mask)) {
    to.change = Change::kNowhere;
  }
}

void Plan::check_join(const JoinStep& step) const {
  int64_t channels = 0;
  for (const int64_t source : step.sources) {
    const at::Tensor& image = value(source).tensor;
    check_type(image, step.result);
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
  if (step.result.scalar_type() == at::kFloat) {
    join<float>(step);
  } else {
    join<BFloat16>(step);
  }
}

template <typename T>
void Plan::join(JoinStep& step) {
  const int64_t channels = step.result.size(1);
  T* result = static_cast<T*>(step.result.mutable_data_ptr());
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
