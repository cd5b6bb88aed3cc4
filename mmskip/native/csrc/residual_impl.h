// The changes of an input, and the scores that a gate gives them.
// Part of kernels_impl.h.
#pragma once

#include "vector_impl.h"

namespace mmskip {
namespace {

// How far values are from a reference, in steps of its grid. If it is of
// bytes, values count as rounded: what is less than a step is no change.
template <typename T>
MMSKIP_INLINE Vector residual_of(
    const ValueOf<T>* x, const T* reference, const Grid&) {
  return load(x) - load(reference);
}

MMSKIP_INLINE Vector residual_of(
    const BFloat16* x, const uint8_t* reference, const Grid& grid) {
  return to_grid(load(x), grid) - load(reference);
}

template <typename T>
MMSKIP_INLINE float one_residual_of(
    const ValueOf<T>* x, const T* reference, const Grid&) {
  return to_float(*x) - to_float(*reference);
}

MMSKIP_INLINE float one_residual_of(
    const BFloat16* x, const uint8_t* reference, const Grid& grid) {
  return one_to_grid(to_float(*x), grid) - to_float(*reference);
}

// A sum of so many steps, or of their squares.
template <typename T>
MMSKIP_INLINE float in_steps(float sum, const Grid& grid, bool squared) {
  if constexpr (sizeof(T) == 1) {
    return squared ? sum * grid.step * grid.step : sum * grid.step;
  } else {
    return sum;
  }
}

// True if x differs from the reference; a NaN does, and so do infinities,
// unless that is of bytes.
template <typename T>
MMSKIP_INLINE bool differs(
    const ValueOf<T>* x, const T* reference, const Grid& grid, int64_t count) {
  int64_t i = 0;
  Bits found[4] = {};
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int64_t at = i + v * kLanes;
      found[v] |= reinterpret_cast<Bits>(
          residual_of(x + at, reference + at, grid) != Vector{});
    }
  }
  for (; i + kLanes <= count; i += kLanes) {
    found[0] |= reinterpret_cast<Bits>(
        residual_of(x + i, reference + i, grid) != Vector{});
  }
  bool rest = false;
  for (; i < count; ++i) {
    rest |= !(one_residual_of(x + i, reference + i, grid) == 0);
  }
  return rest || any((found[0] | found[1]) | (found[2] | found[3]));
}

// The score that a norm gate gives a position; returns whether that has
// changed, as differs() does.
template <bool squared, typename T>
MMSKIP_INLINE bool measure(
    const Comparison<T>& job,
    const ValueOf<T>* x,
    T* reference,
    float* score) {
  const int64_t C = job.geometry->in_channels;
  const bool subtract = job.subtract;
  Vector sums = {};
  Bits found = {};
  int64_t c = 0;
  for (; c + kLanes <= C; c += kLanes) {
    const Vector residual = residual_of(x + c, reference + c, job.grid);
    sums += magnitude_of(residual, squared);
    // Squares of small residuals are 0.
    found |= reinterpret_cast<Bits>(residual != Vector{});
    if (subtract) {
      store(reference + c, residual);
    }
  }
  float sum = total(sums);
  bool rest = false;
  for (; c < C; ++c) {
    const float residual = one_residual_of(x + c, reference + c, job.grid);
    sum += squared ? residual * residual : __builtin_fabsf(residual);
    rest |= !(residual == 0);
    if (subtract) {
      store_one(reference + c, residual);
    }
  }
  *score = in_steps<T>(sum, job.grid, squared) / static_cast<float>(C);
  return rest || any(found);
}

// Positions of a learned gate's kernel whose products are summed at a time.
constexpr int kProducts = 4;

// The values that a learned gate reads in channels c, c + 1, ...
template <GateInput input, typename T>
MMSKIP_INLINE Vector seen(
    const ValueOf<T>* x, const T* reference, const Grid& grid, int64_t c) {
  if (input == GateInput::kFrame) {
    return load(x + c);
  }
  Vector residual = residual_of(x + c, reference + c, grid);
  if constexpr (sizeof(T) == 1) {
    residual *= grid.step;
  }
  return input == GateInput::kMagnitude ? magnitude_of(residual, false)
                                        : residual;
}

template <GateInput input, typename T>
MMSKIP_INLINE float seen_one(
    const ValueOf<T>* x, const T* reference, const Grid& grid, int64_t c) {
  if (input == GateInput::kFrame) {
    return to_float(x[c]);
  }
  const float residual = in_steps<T>(
      one_residual_of(x + c, reference + c, grid), grid, false);
  return input == GateInput::kMagnitude ? __builtin_fabsf(residual) : residual;
}

// The products of one input position with `count` positions of the kernel.
template <GateInput input, int count, typename T>
MMSKIP_INLINE void products(
    const Comparison<T>& job,
    const ValueOf<T>* x,
    const T* reference,
    const float* gate,
    float* scores,
    int64_t step) {
  const int64_t C = job.geometry->in_channels;
  Vector sums[count] = {};
  int64_t c = 0;
  for (; c + kLanes <= C; c += kLanes) {
    const Vector value = seen<input>(x, reference, job.grid, c);
#pragma GCC unroll 4
    for (int k = 0; k < count; ++k) {
      sums[k] += value * load(gate + k * C + c);
    }
  }
  for (int k = 0; k < count; ++k) {
    float sum = total(sums[k]);
    for (int64_t rest = c; rest < C; ++rest) {
      sum += seen_one<input>(x, reference, job.grid, rest) * gate[k * C + rest];
    }
    scores[k * step] = sum;
  }
}

template <GateInput input, typename T>
void learned_scores(
    const Comparison<T>& job,
    const ValueOf<T>* x,
    const T* reference,
    float* scores) {
  const Geometry& g = *job.geometry;
  const int64_t C = g.in_channels, taps = g.positions();
  const int64_t step = g.streams * g.padded_size();
  int64_t k = 0;
  for (; k + kProducts <= taps; k += kProducts) {
    products<input, kProducts>(
        job, x, reference, job.gate + k * C, scores + k * step, step);
  }
  for (; k < taps; ++k) {
    products<input, 1>(
        job, x, reference, job.gate + k * C, scores + k * step, step);
  }
}

// The scores of one position that has changed, of a learned gate.
template <typename T>
MMSKIP_INLINE void score(
    const Comparison<T>& job,
    const ValueOf<T>* x,
    T* reference,
    float* scores) {
  const int64_t C = job.geometry->in_channels;
  if (job.gate_input == GateInput::kResidual) {
    learned_scores<GateInput::kResidual>(job, x, reference, scores);
  } else if (job.gate_input == GateInput::kMagnitude) {
    learned_scores<GateInput::kMagnitude>(job, x, reference, scores);
  }
  if constexpr (sizeof(T) == sizeof(float)) {
    for (int64_t c = 0; job.subtract && c < C; ++c) {
      store_one(reference + c, to_float(x[c]) - to_float(reference[c]));
    }
  }
}

// One position again; returns whether it has changed.
template <typename T>
MMSKIP_INLINE bool compare_position(
    const Comparison<T>& job,
    const ValueOf<T>* x,
    T* reference,
    int64_t at) {
  const Geometry& g = *job.geometry;
  if (job.gate == nullptr) {
    // What has not changed does not become a residual.
    const bool changed =
        (!job.subtract ||
         differs(x, reference, job.grid, g.in_channels)) &&
        (job.order == 2
             ? measure<true>(job, x, reference, job.scores + at)
             : measure<false>(job, x, reference, job.scores + at));
    job.changed[at] = changed;
    if (!changed) {
      job.scores[at] = 0;
    }
    return changed;
  }
  const bool changed = differs(x, reference, job.grid, g.in_channels);
  job.changed[at] = changed;
  if (changed) {
    score(job, x, reference, job.scores + at);
    return true;
  }
  if (job.gate_input != GateInput::kFrame) {
    for (int64_t k = 0; k < g.positions(); ++k) {
      job.scores[k * g.streams * g.padded_size() + at] = 0;
    }
  }
  return false;
}

// A row of which candidates are known.
template <typename T>
MMSKIP_INLINE int32_t compare_candidates(
    const Comparison<T>& job,
    const uint8_t* candidates,
    const ValueOf<T>* x,
    T* reference,
    int64_t padded) {
  const int64_t C = job.geometry->in_channels, width = job.geometry->width;
  const bool reads_frames =
      job.gate != nullptr && job.gate_input == GateInput::kFrame;
  int32_t count = 0;
  for (int64_t w = 0; w < width; ++w) {
    if (are_zero(candidates + w, width - w) &&
        are_zero(job.changed + padded + w, width - w)) {
      w += kBytes - 1;
      continue;
    }
    if (candidates[w] == 0) {
      count += job.changed[padded + w];
      continue;
    }
    if (reads_frames) {
      learned_scores<GateInput::kFrame>(
          job, x + w * C, reference, job.scores + padded + w);
    }
    // What changes lies together: the row below is likely to be next.
    prefetch(reference + (width + w) * C, C);
    count += compare_position(job, x + w * C, reference + w * C, padded + w);
  }
  return count;
}

// A row of which nothing is known.
template <typename T>
MMSKIP_INLINE int32_t compare_row(
    const Comparison<T>& job,
    const ValueOf<T>* x,
    T* reference,
    int64_t padded) {
  const int64_t C = job.geometry->in_channels, width = job.geometry->width;
  const bool reads_frames =
      job.gate != nullptr && job.gate_input == GateInput::kFrame;
  for (int64_t w = 0; reads_frames && w < width; ++w) {
    learned_scores<GateInput::kFrame>(
        job, x + w * C, reference, job.scores + padded + w);
  }
  int32_t count = 0;
  // Most of what has not changed lies together.
  const int64_t run = C >= 256 ? 1 : 256 / C;
  for (int64_t left = 0; left < width; left += run) {
    const int64_t right = left + run < width ? left + run : width;
    if (!differs(
            x + left * C, reference + left * C, job.grid,
            (right - left) * C)) {
      continue;
    }
    for (int64_t w = left; w < right; ++w) {
      count += compare_position(job, x + w * C, reference + w * C, padded + w);
    }
  }
  return count;
}

template <typename T>
void compare_rows(const Comparison<T>& job, int64_t begin, int64_t end) {
  const Geometry& g = *job.geometry;
  const int64_t size = g.width * g.in_channels;
  for (int64_t row = begin; row < end; ++row) {
    const ValueOf<T>* x = job.x + row * size;
    const int64_t padded = g.padded_row(row);
    T* reference =
        job.reference + (job.is_padded ? padded * g.in_channels : row * size);
    job.counts[row] = job.candidates == nullptr
        ? compare_row(job, x, reference, padded)
        : compare_candidates(
              job, job.candidates + row * g.width, x, reference, padded);
  }
}

inline void round_values(
    const BFloat16* from, const Grid& given, int64_t count, uint8_t* to) {
  const Grid grid = given;  // what is stored as bytes might be a part of it
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    store(to + i, to_grid(load(from + i), grid));
  }
  for (; i < count; ++i) {
    store_one(to + i, one_to_grid(to_float(from[i]), grid));
  }
}

// True if a copy is not what an image is rounded to.
template <typename T>
MMSKIP_INLINE bool is_other(const float* image, const T* copy, int64_t count) {
  int64_t i = 0;
  Bits found[2] = {};
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    found[0] |= reinterpret_cast<Bits>(
        as_stored<T>(load(image + i)) - load(copy + i) != Vector{});
    found[1] |= reinterpret_cast<Bits>(
        as_stored<T>(load(image + i + kLanes)) - load(copy + i + kLanes) !=
        Vector{});
  }
  bool rest = false;
  for (; i < count; ++i) {
    rest |= !(one_as_stored<T>(image[i]) - to_float(copy[i]) == 0);
  }
  return rest || any(found[0] | found[1]);
}

template <typename T>
void follow_rows(const Following<T>& job, int64_t begin, int64_t end) {
  const int64_t C = job.channels, width = job.width;
  const int64_t run = C >= 256 ? 1 : 256 / C;
  for (int64_t row = begin; row < end; ++row) {
    const float* image = job.image + row * width * C;
    T* copy = job.copy + row * width * C;
    uint8_t* mask = job.mask + row * width;
    int32_t count = 0;
    for (int64_t left = 0; left < width; left += run) {
      const int64_t right = left + run < width ? left + run : width;
      if (!is_other(image + left * C, copy + left * C, (right - left) * C)) {
        __builtin_memset(mask + left, 0, right - left);
        continue;
      }
      for (int64_t w = left; w < right; ++w) {
        mask[w] = is_other(image + w * C, copy + w * C, C);
        count += mask[w];
      }
      // What has not changed is what it is rounded to.
      int64_t c = left * C;
      for (; c + kLanes <= right * C; c += kLanes) {
        store(copy + c, load(image + c));
      }
      for (; c < right * C; ++c) {
        store_one(copy + c, image[c]);
      }
    }
    job.counts[row] = count;
  }
}

} // namespace
} // namespace mmskip
