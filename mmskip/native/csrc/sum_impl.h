// Sums of images, where they have changed.
// Part of kernels_impl.h.
#pragma once

#include "activation_impl.h"
#include "runs.h"

namespace mmskip {
namespace {

// Where row h of the result reads in an image that is `factor` times smaller.
template <typename T>
MMSKIP_INLINE int64_t source_row(const Sum<T>& job, int64_t row, int64_t factor) {
  const int64_t stream = row / job.height, h = row % job.height;
  return (stream * (job.height / factor) + h / factor) * (job.width / factor);
}

// Positions of a row to compute; returns how many.
template <typename T>
MMSKIP_INLINE int32_t mark_row(const Sum<T>& job, int64_t row, uint8_t* mask) {
  bool found_any = job.everywhere;
  for (int64_t i = 0; i < job.num_maps && !found_any; ++i) {
    const int64_t factor = job.map_factors[i];
    const uint8_t* from = job.maps[i] + source_row(job, row, factor);
    found_any = !is_zero(from, job.width / factor);
  }
  if (!found_any) {
    __builtin_memset(mask, 0, job.width);
    return 0;
  }
  for (int64_t w = 0; w < job.width; ++w) {
    mask[w] = job.everywhere;
  }
  for (int64_t i = 0; i < job.num_maps; ++i) {
    const int64_t factor = job.map_factors[i];
    const uint8_t* from = job.maps[i] + source_row(job, row, factor);
    if (factor == 1) {
      for (int64_t w = 0; w < job.width; ++w) {
        mask[w] |= from[w];
      }
    } else {
      for (int64_t w = 0; w < job.width; ++w) {
        mask[w] |= from[w / factor];
      }
    }
  }
  int32_t found = 0;
  for (int64_t w = 0; w < job.width; ++w) {
    found += mask[w];
  }
  return found;
}

// The channels of a position, or, where nothing is scaled, of several.
template <ActivationKind kind, bool scales, typename T>
MMSKIP_INLINE void add_channels(
    const Sum<T>& job, const T* const* from, T* to, int64_t channels) {
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    Vector sum = load(from[0] + c);
    for (int64_t i = 1; i < job.count; ++i) {
      sum += load(from[i] + c);
    }
    if (scales) {
      sum = sum * load(job.scale + c) + load(job.shift + c);
    }
    store(to + c, activate<kind>(sum, job.activation));
  }
  const int64_t left = channels - c;
  if (left > 0) {
    Vector sum = load_some(from[0] + c, left);
    for (int64_t i = 1; i < job.count; ++i) {
      sum += load_some(from[i] + c, left);
    }
    if (scales) {
      sum = sum * load_some(job.scale + c, left) +
          load_some(job.shift + c, left);
    }
    store_some(to + c, activate<kind>(sum, job.activation), left);
  }
}

template <ActivationKind kind, bool scales, typename T>
void add_marked(const Sum<T>& job, int64_t row, const uint8_t* mask) {
  const T* starts[kMaxTerms];
  const T* from[kMaxTerms];
  for (int64_t i = 0; i < job.count; ++i) {
    starts[i] =
        job.images[i] + source_row(job, row, job.factors[i]) * job.channels;
  }
  bool enlarges = false;
  for (int64_t i = 0; i < job.count; ++i) {
    enlarges |= job.factors[i] != 1;
  }
  T* to = job.result + row * job.width * job.channels;
  const auto add = [&](int64_t first, int64_t last) MMSKIP_ALWAYS {
    for (int64_t i = 0; i < job.count; ++i) {
      const int64_t at = enlarges ? first / job.factors[i] : first;
      from[i] = starts[i] + at * job.channels;
    }
    // As in compare_candidates().
    prefetch(
        to + (job.width + first) * job.channels,
        (last - first) * job.channels);
    add_channels<kind, scales>(
        job, from, to + first * job.channels, (last - first) * job.channels);
  };
  for_runs(
      mask, nullptr, job.width,
      [&](int64_t first, int64_t last) MMSKIP_ALWAYS {
        // Neighbours are added at once.
        if (!scales && !enlarges) {
          add(first, last);
          return;
        }
        for (int64_t w = first; w < last; ++w) {
          add(w, w + 1);
        }
      });
}

template <bool scales, typename T>
void add_activated(const Sum<T>& job, int64_t row, const uint8_t* mask) {
  for_kind(job.activation.kind, [&](auto known) MMSKIP_ALWAYS {
    add_marked<decltype(known)::kind, scales>(job, row, mask);
  });
}

template <typename T>
void add_rows(const Sum<T>& job, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    uint8_t* mask = job.mask + row * job.width;
    job.counts[row] = mark_row(job, row, mask);
    if (job.counts[row] == 0) {
      continue;
    }
    if (job.scale != nullptr) {
      add_activated<true>(job, row, mask);
    } else {
      add_activated<false>(job, row, mask);
    }
  }
}

} // namespace
} // namespace mmskip
