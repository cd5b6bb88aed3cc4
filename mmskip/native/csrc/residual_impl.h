// The changes of an input, and the scores that a gate gives them.
// Part of kernels_impl.h.
#pragma once

#include "runs.h"
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

// The same of the first `count` values; of the others it is 0.
template <typename T>
MMSKIP_INLINE Vector some_residuals_of(
    const ValueOf<T>* x, const T* reference, const Grid&, int64_t count) {
  return load_some(x, count) - load_some(reference, count);
}

MMSKIP_INLINE Vector some_residuals_of(
    const BFloat16* x,
    const uint8_t* reference,
    const Grid& grid,
    int64_t count) {
  const Vector residual = to_grid(load_some(x, count), grid) -
      load_some(reference, count);
  // Behind them is the zero of the grid.
  return choose(before(count), residual, Vector{});
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
  if (i < count) {
    found[1] |= reinterpret_cast<Bits>(
        some_residuals_of(x + i, reference + i, grid, count - i) != Vector{});
  }
  return any((found[0] | found[1]) | (found[2] | found[3]));
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
  if (c < C) {
    const Vector residual =
        some_residuals_of(x + c, reference + c, job.grid, C - c);
    sums += magnitude_of(residual, squared);
    found |= reinterpret_cast<Bits>(residual != Vector{});
    if (subtract) {
      store_some(reference + c, residual, C - c);
    }
  }
  *score =
      in_steps<T>(total(sums), job.grid, squared) / static_cast<float>(C);
  return any(found);
}

// Positions of a learned gate's kernel whose products are summed at a time.
constexpr int kProducts = 4;

// What a learned gate reads of `count` values; behind them are zeros.
template <GateInput input, typename T>
MMSKIP_INLINE Vector seen(
    const ValueOf<T>* x, const T* reference, const Grid& grid, int64_t count) {
  if (input == GateInput::kFrame) {
    return load_up_to(x, count);
  }
  Vector residual = count >= kLanes
      ? residual_of(x, reference, grid)
      : some_residuals_of(x, reference, grid, count);
  if constexpr (sizeof(T) == 1) {
    residual *= grid.step;
  }
  return input == GateInput::kResidual
      ? residual
      : magnitude_of(residual, input == GateInput::kSquare);
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
  for (int64_t c = 0; c < C; c += kLanes) {
    const int64_t left = C - c;
    const Vector value = seen<input>(x + c, reference + c, job.grid, left);
#pragma GCC unroll 4
    for (int k = 0; k < count; ++k) {
      sums[k] += value * load_up_to(gate + k * C + c, left);
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < count; ++k) {
    scores[k * step] = total(sums[k]);
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
  } else if (job.gate_input == GateInput::kSquare) {
    learned_scores<GateInput::kSquare>(job, x, reference, scores);
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

// Values that are compared before they are looked at one by one, and up to
// how many channels a position has none of its own.
constexpr int64_t kCompared = 256, kFewChannels = 8;

// True if a norm gate looks at values of so few channels that positions share
// vectors.
template <typename T>
MMSKIP_INLINE bool shares_vectors(const Comparison<T>& job) {
  return job.gate == nullptr && !job.subtract &&
      job.geometry->in_channels <= kFewChannels;
}

// Positions [left, right) of a row that share vectors; returns how many have
// changed.
template <typename T>
MMSKIP_INLINE int32_t compare_positions(
    const Comparison<T>& job,
    const ValueOf<T>* x,
    const T* reference,
    int64_t padded,
    int64_t left,
    int64_t right) {
  const int64_t C = job.geometry->in_channels;
  const int64_t most = kCompared / C;
  const bool squared = job.order == 2;
  int32_t count = 0;
  for (int64_t begin = left; begin < right; begin += most) {
    const int64_t end = begin + most < right ? begin + most : right;
    const int64_t first = begin * C, size = (end - begin) * C;
    float magnitudes[kCompared + kLanes];
    uint8_t others[kCompared + kLanes];
    for (int64_t i = 0; i < size; i += kLanes) {
      const int64_t at = first + i, some = size - i;
      const Vector residual = some >= kLanes
          ? residual_of(x + at, reference + at, job.grid)
          : some_residuals_of(x + at, reference + at, job.grid, some);
      const Bits other = reinterpret_cast<Bits>(residual != Vector{});
      store(magnitudes + i, magnitude_of(residual, squared));
      store(others + i, choose(other, splat(1), Vector{}));
    }
    for (int64_t w = begin; w < end; ++w) {
      const int64_t at = (w - begin) * C;
      float sum = 0;
      uint8_t changed = 0;
      for (int64_t c = at; c < at + C; ++c) {
        sum += magnitudes[c];
        changed |= others[c];
      }
      job.scores[padded + w] =
          in_steps<T>(sum, job.grid, squared) / static_cast<float>(C);
      job.changed[padded + w] = changed;
      count += changed;
    }
  }
  return count;
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
  for_runs(
      candidates, nullptr, width,
      [&](int64_t first, int64_t last) MMSKIP_ALWAYS {
        if (shares_vectors(job)) {
          compare_positions(job, x, reference, padded, first, last);
          return;
        }
        for (int64_t w = first; w < last; ++w) {
          if (reads_frames) {
            learned_scores<GateInput::kFrame>(
                job, x + w * C, reference, job.scores + padded + w);
          }
          // What changes lies together: the row below is likely to be next.
          prefetch(reference + (width + w) * C, C);
          compare_position(job, x + w * C, reference + w * C, padded + w);
        }
      });
  // Also what had changed before, and has not been transmitted.
  int32_t count = 0;
  for (int64_t w = 0; w < width; ++w) {
    count += job.changed[padded + w];
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
    if (shares_vectors(job)) {
      count += compare_positions(job, x, reference, padded, left, right);
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

template <typename T>
void sum_row_steps(
    const T* row, int64_t width, int64_t channels, float* sums) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t left = channels - c;
    Vector sum = {}, before = load_up_to(row + c, left);
    for (int64_t w = 1; w < width; ++w) {
      const Vector now = load_up_to(row + w * channels + c, left);
      sum += magnitude_of(now - before, false);
      before = now;
    }
    store_up_to(sums + c, sum, left);
  }
}

inline void round_values(
    const BFloat16* from, const Grid& given, int64_t count, uint8_t* to) {
  const Grid grid = given;  // what is stored as bytes might be a part of it
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    store(to + i, to_grid(load(from + i), grid));
  }
  if (i < count) {
    store_some(to + i, to_grid(load_some(from + i, count - i), grid), count - i);
  }
}

// Tells if values of a copy are not what an image is rounded to, and, if
// `others` is given, which.
template <typename T>
MMSKIP_INLINE bool find_others(
    const float* image, const T* copy, int64_t count, uint8_t* others) {
  Bits found = {};
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t left = count - i;
    const Vector residual = as_stored<T>(load_up_to(image + i, left)) -
        load_up_to(copy + i, left);
    const Bits other = reinterpret_cast<Bits>(residual != Vector{});
    if (others != nullptr) {
      store(others + i, choose(other, splat(1), Vector{}));
    }
    found |= other;
  }
  return any(found);
}

// Positions [left, right) of a row, which have no more than kCompared values,
// or a single one; returns how many have changed.
template <typename T>
MMSKIP_INLINE int32_t follow_positions(
    const float* image,
    T* copy,
    uint8_t* mask,
    int64_t left,
    int64_t right,
    int64_t C) {
  uint8_t others[kCompared + kLanes];
  const int64_t count = (right - left) * C;
  image += left * C;
  copy += left * C;
  const bool single = right - left == 1;
  if (!find_others(image, copy, count, single ? nullptr : others)) {
    __builtin_memset(mask + left, 0, right - left);
    return 0;
  }
  int32_t changed = single;
  mask[left] = single;
  if (!single) {
    // Of each value whether it or one of the C - 1 behind it is another.
    uint8_t joined[kCompared + kLanes];
    __builtin_memcpy(joined, others, count);
    for (int64_t c = 1; c < C; ++c) {
      for (int64_t i = 0; i < count - c; ++i) {
        joined[i] |= others[i + c];
      }
    }
    for (int64_t w = 0; w < right - left; ++w) {
      mask[left + w] = joined[w * C];
      changed += joined[w * C];
    }
  }
  // What has not changed is what it is rounded to.
  for (int64_t c = 0; c < count; c += kLanes) {
    store_up_to(copy + c, load_up_to(image + c, count - c), count - c);
  }
  return changed;
}

template <typename T>
void follow_rows(const Following<T>& job, int64_t begin, int64_t end) {
  const int64_t C = job.channels, width = job.width;
  const int64_t run = C >= kCompared ? 1 : kCompared / C;
  for (int64_t row = begin; row < end; ++row) {
    const float* image = job.image + row * width * C;
    T* copy = job.copy + row * width * C;
    uint8_t* mask = job.mask + row * width;
    job.counts[row] = 0;
    for (int64_t left = 0; left < width; left += run) {
      const int64_t right = left + run < width ? left + run : width;
      job.counts[row] +=
          follow_positions(image, copy, mask, left, right, C);
    }
  }
}

} // namespace
} // namespace mmskip
