#include "layout.h"

#include <algorithm>
#include <cstring>

#include "isa.h"
#include "share_rows.h"

namespace mmskip {
namespace {

// Floats in a cache line.
constexpr int64_t kTile = 16;

// [images][rows][columns] to [images][columns][rows], in tiles of whole cache
// lines: torch's copy reads or writes one float of each.
void transpose(
    const float* from,
    float* to,
    int64_t images,
    int64_t rows,
    int64_t columns) {
  const int64_t bands = (rows + kTile - 1) / kTile;
  share_rows(
      images * bands, grain_of(kTile * columns),
      [&](int64_t begin, int64_t end) {
        for (int64_t band = begin; band < end; ++band) {
          const int64_t first = band % bands * kTile;
          const int64_t last = std::min(first + kTile, rows);
          const int64_t image = band / bands * rows * columns;
          for (int64_t left = 0; left < columns; left += kTile) {
            const int64_t right = std::min(left + kTile, columns);
            for (int64_t c = left; c < right; ++c) {
              for (int64_t r = first; r < last; ++r) {
                to[image + c * rows + r] = from[image + r * columns + c];
              }
            }
          }
        }
      });
}

// Values of a share of a copy: a page of floats.
constexpr int64_t kCopied = 1024;

float as_float(float value) {
  return value;
}

float as_float(at::BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.x) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

template <typename T>
void copy_floats(const T* from, float* to, int64_t count) {
  share_rows(
      (count + kCopied - 1) / kCopied, grain_of(kCopied),
      [&](int64_t begin, int64_t end) {
        const int64_t last = std::min(end * kCopied, count);
        for (int64_t i = begin * kCopied; i < last; ++i) {
          to[i] = as_float(from[i]);
        }
      });
}

} // namespace

bool is_channels_last(const at::Tensor& image) {
  return image.dim() == 4 && image.stride(1) == 1 && image.size(1) > 1 &&
      image.stride(3) >= image.size(1);
}

at::Tensor to_channels_last(const at::Tensor& image) {
  constexpr auto layout = at::MemoryFormat::ChannelsLast;
  if (!image.is_contiguous() || image.is_contiguous(layout)) {
    return image.contiguous(layout);
  }
  at::Tensor result = at::empty_like(image, layout);
  transpose(
      image.const_data_ptr<float>(), result.mutable_data_ptr<float>(),
      image.size(0), image.size(1), image.size(2) * image.size(3));
  return result;
}

at::Tensor contiguous_copy(const at::Tensor& image) {
  at::Tensor result = at::empty_like(image, at::MemoryFormat::Contiguous);
  transpose(
      image.const_data_ptr<float>(), result.mutable_data_ptr<float>(),
      image.size(0), image.size(2) * image.size(3), image.size(1));
  return result;
}

at::Tensor round_to_bytes(const at::Tensor& values, double step, int64_t zero) {
  TORCH_CHECK(
      values.scalar_type() == at::kBFloat16 &&
          values.is_non_overlapping_and_dense(),
      "expected bfloat16 without gaps, got ", values.scalar_type(),
      " with strides ", values.strides());
  at::Tensor result = at::empty_like(values, values.options().dtype(at::kByte));
  const auto* from = reinterpret_cast<const BFloat16*>(
      values.const_data_ptr<at::BFloat16>());
  uint8_t* to = result.mutable_data_ptr<uint8_t>();
  const auto size = static_cast<float>(step);
  const Grid grid{size, static_cast<float>(zero), 1 / size};
  // In torch's threads: they have just convolved, and still wait for work.
  at::parallel_for(
      0, values.numel(), kGrain, [&](int64_t begin, int64_t end) {
        byte_kernels().round(from + begin, grid, end - begin, to + begin);
      });
  return result;
}

at::Tensor float_copy(const at::Tensor& values) {
  TORCH_CHECK(
      values.is_non_overlapping_and_dense(),
      "expected values without gaps between them");
  at::Tensor result = at::empty_like(values, values.options().dtype(at::kFloat));
  float* const to = result.mutable_data_ptr<float>();
  if (values.scalar_type() == at::kFloat) {
    copy_floats(values.const_data_ptr<float>(), to, values.numel());
  } else {
    copy_floats(values.const_data_ptr<at::BFloat16>(), to, values.numel());
  }
  return result;
}

} // namespace mmskip
