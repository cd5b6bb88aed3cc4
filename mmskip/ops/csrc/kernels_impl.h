// The source of the kernels. Each file that includes it defines
//   MMSKIP_BYTES   bytes of a vector register
//   MMSKIP_PIXELS  outputs in a register tile, two vectors each
//   MMSKIP_TABLE   name of the table of kernels to define
// and is compiled with the flags of its instruction set. Nothing here may
// be visible to other files, and nothing of the standard library be used: the
// linker would keep one copy of an inline function, for any instruction set.
#include "kernels.h"

namespace mmskip {
namespace {

typedef float Vector __attribute__((vector_size(MMSKIP_BYTES)));
typedef float Loose
    __attribute__((vector_size(MMSKIP_BYTES), aligned(4), may_alias));
typedef int32_t Bits __attribute__((vector_size(MMSKIP_BYTES)));

constexpr int kLanes = MMSKIP_BYTES / 4;
constexpr int kTile = MMSKIP_PIXELS;
// Tiles whose taps are looked up at a time.
constexpr int kChunk = 8 * kTile;
constexpr int kMaxTaps = 64;

#define MMSKIP_INLINE inline __attribute__((always_inline))

MMSKIP_INLINE Vector load(const float* from) {
  return *reinterpret_cast<const Loose*>(from);
}

MMSKIP_INLINE void store(float* to, Vector value) {
  *reinterpret_cast<Loose*>(to) = value;
}

MMSKIP_INLINE Vector load_some(const float* from, int64_t count) {
  Vector value = {};
  for (int64_t i = 0; i < count; ++i) {
    value[i] = from[i];
  }
  return value;
}

MMSKIP_INLINE void store_some(float* to, Vector value, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = value[i];
  }
}

MMSKIP_INLINE bool any(Bits bits) {
  int32_t all = 0;
  for (int i = 0; i < kLanes; ++i) {
    all |= bits[i];
  }
  return all != 0;
}

MMSKIP_INLINE float total(Vector value) {
  float sum = 0;
  for (int i = 0; i < kLanes; ++i) {
    sum += value[i];
  }
  return sum;
}

MMSKIP_INLINE Vector magnitude_of(Vector residual, bool squared) {
  if (squared) {
    return residual * residual;
  }
  return reinterpret_cast<Vector>(
      reinterpret_cast<Bits>(residual) & INT32_C(0x7fffffff));
}

// Whether x differs from the reference; a NaN does, and so do infinities.
MMSKIP_INLINE bool differs(
    const float* x, const float* reference, int64_t count) {
  int64_t i = 0;
  Bits found[4] = {};
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int64_t at = i + v * kLanes;
      found[v] |= reinterpret_cast<Bits>(
          load(x + at) - load(reference + at) != Vector{});
    }
  }
  for (; i + kLanes <= count; i += kLanes) {
    found[0] |= reinterpret_cast<Bits>(
        load(x + i) - load(reference + i) != Vector{});
  }
  bool rest = false;
  for (; i < count; ++i) {
    rest |= !(x[i] - reference[i] == 0);
  }
  return rest || any((found[0] | found[1]) | (found[2] | found[3]));
}

template <bool squared>
MMSKIP_INLINE float measure(
    const float* x, float* reference, int64_t C, bool subtract) {
  Vector sums = {};
  int64_t c = 0;
  for (; c + kLanes <= C; c += kLanes) {
    const Vector residual = load(x + c) - load(reference + c);
    sums += magnitude_of(residual, squared);
    if (subtract) {
      store(reference + c, residual);
    }
  }
  float sum = total(sums);
  for (; c < C; ++c) {
    const float residual = x[c] - reference[c];
    sum += squared ? residual * residual : __builtin_fabsf(residual);
    if (subtract) {
      reference[c] = residual;
    }
  }
  return sum / static_cast<float>(C);
}

void residual_rows(
    const Geometry& geometry,
    const float* x,
    float* reference,
    float* magnitude,
    uint8_t* changed,
    int32_t* counts,
    int order,
    bool subtract,
    int64_t begin,
    int64_t end) {
  const int64_t C = geometry.in_channels, width = geometry.width;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t padded = geometry.padded_row(row);
    int32_t count = 0;
    // Most of what has not changed lies together.
    const int64_t run = C >= 256 ? 1 : 256 / C;
    for (int64_t left = 0; left < width; left += run) {
      const int64_t right = left + run < width ? left + run : width;
      const int64_t from = (row * width + left) * C;
      if (!differs(x + from, reference + from, (right - left) * C)) {
        for (int64_t w = left; w < right; ++w) {
          changed[padded + w] = 0;
          magnitude[padded + w] = 0;
        }
        continue;
      }
      for (int64_t w = left; w < right; ++w) {
        const int64_t at = (row * width + w) * C;
        const bool differ = differs(x + at, reference + at, C);
        changed[padded + w] = differ;
        magnitude[padded + w] = 0;
        if (differ) {
          magnitude[padded + w] = order == 2
              ? measure<true>(x + at, reference + at, C, subtract)
              : measure<false>(x + at, reference + at, C, subtract);
          ++count;
        }
      }
    }
    counts[row] = count;
  }
}

void support_sum_rows(
    const Geometry& geometry,
    const float* map,
    float* sums,
    int64_t begin,
    int64_t end) {
  const int64_t width = geometry.out_width, stride = geometry.stride_width;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t stream = row / geometry.out_height;
    const int64_t top =
        row % geometry.out_height * geometry.stride_height;
    float* sum = sums + row * width;
    for (int64_t w = 0; w < width; ++w) {
      sum[w] = 0;
    }
    for (int64_t kh = 0; kh < geometry.kernel_height; ++kh) {
      const float* line = map +
          (stream * geometry.padded_height() + top +
           kh * geometry.dilation_height) *
              geometry.padded_width();
      for (int64_t kw = 0; kw < geometry.kernel_width; ++kw) {
        const float* from = line + kw * geometry.dilation_width;
        if (stride == 1) {
          for (int64_t w = 0; w < width; ++w) {
            sum[w] += from[w];
          }
        } else {
          for (int64_t w = 0; w < width; ++w) {
            sum[w] += from[w * stride];
          }
        }
      }
    }
  }
}

// Where the taps of up to kChunk outputs read.
struct Taps {
  // [position][output]; zeros outside of the image and where not readable.
  const float* from[kMaxTaps][kChunk];
  // Whether no output of a tile reads anything through a tap.
  bool idle[kMaxTaps][kChunk / kTile];
};

MMSKIP_INLINE void look_up(
    const Accumulation& job,
    int64_t begin,
    int64_t count,
    int64_t first_tap,
    int64_t taps,
    Taps& result) {
  const Geometry& g = *job.geometry;
  const int64_t padded_width = g.padded_width(), C = g.in_channels;
  int64_t flag_step[kMaxTaps], input_step[kMaxTaps];
  for (int64_t t = 0; t < taps; ++t) {
    const int64_t h = (first_tap + t) / g.kernel_width * g.dilation_height;
    const int64_t w = (first_tap + t) % g.kernel_width * g.dilation_width;
    flag_step[t] = h * padded_width + w;
    input_step[t] = (h * g.width + w) * C;
    for (int64_t i = 0; i < (count + kTile - 1) / kTile; ++i) {
      result.idle[t][i] = true;
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t index = job.active[begin + i];
    const int64_t stream = index / g.out_size();
    const int64_t place = index - stream * g.out_size();
    const int64_t h = place / g.out_width * g.stride_height;
    const int64_t w = place % g.out_width * g.stride_width;
    const uint8_t* flags =
        job.readable + stream * g.padded_size() + h * padded_width + w;
    // May lie outside of the image, where it is not used.
    const int64_t origin = stream * g.in_size() * C +
        ((h - g.top) * g.width + w - g.left) * C;
    for (int64_t t = 0; t < taps; ++t) {
      const bool reads = flags[flag_step[t]] != 0;
      result.from[t][i] =
          reads ? job.input + (origin + input_step[t]) : job.zeros;
      result.idle[t][i / kTile] &= !reads;
    }
  }
}

template <int pixels, int vectors>
MMSKIP_INLINE void multiply(
    const Taps& taps,
    int64_t num_taps,
    int64_t at,
    int64_t channel,
    int64_t channels,
    const float* weight,
    Vector (&sums)[pixels][vectors]) {
  for (int64_t t = 0; t < num_taps; ++t) {
    if (taps.idle[t][at / kTile]) {
      continue;
    }
    const float* from[pixels];
    for (int i = 0; i < pixels; ++i) {
      from[i] = taps.from[t][at + i] + channel;
    }
    const float* w = weight + t * channels * kBlock;
    for (int64_t c = 0; c < channels; ++c, w += kBlock) {
      Vector row[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        row[v] = load(w + v * kLanes);
      }
#pragma GCC unroll 16
      for (int i = 0; i < pixels; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
          sums[i][v] += row[v] * from[i][c];
        }
      }
    }
  }
}

// One tile: outputs begin + at ..., channels [first, first + count).
template <int pixels, int vectors>
void run_tile(
    const Accumulation& job,
    const Taps& taps,
    int64_t num_taps,
    const int32_t* active,
    int64_t at,
    int64_t channel,
    const float* weight,
    int64_t first,
    int64_t count,
    bool initial) {
  const Geometry& g = *job.geometry;
  const int64_t channels = g.in_channels / g.groups;
  Vector sums[pixels][vectors] = {};
  multiply<pixels, vectors>(
      taps, num_taps, at, channel, channels, weight, sums);
#pragma GCC unroll 16
  for (int i = 0; i < pixels; ++i) {
    float* to = job.output + active[at + i] * g.out_channels + first;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const int64_t left = count - v * kLanes;
      const float* base = to + v * kLanes;
      if (initial && job.bias != nullptr) {
        base = job.bias + first + v * kLanes;
      }
      if (left >= kLanes) {
        store(to + v * kLanes, load(base) + sums[i][v]);
      } else if (left > 0) {
        store_some(
            to + v * kLanes, load_some(base, left) + sums[i][v], left);
      }
    }
  }
}

// Runs as large a tile as there are outputs left for; returns its size.
template <int vectors, int pixels = kTile>
MMSKIP_INLINE int64_t run_largest_tile(
    int64_t left,
    const Accumulation& job,
    const Taps& taps,
    int64_t num_taps,
    const int32_t* active,
    int64_t at,
    int64_t channel,
    const float* weight,
    int64_t first,
    int64_t count,
    bool initial) {
  if (pixels == 1 || left >= pixels) {
    run_tile<pixels, vectors>(
        job, taps, num_taps, active, at, channel, weight, first, count,
        initial);
    return pixels;
  }
  if constexpr (pixels > 1) {
    return run_largest_tile<vectors, pixels == 12 ? 8 : pixels / 2>(
        left, job, taps, num_taps, active, at, channel, weight, first, count,
        initial);
  }
  return 1;
}

// All outputs of a chunk, one block of channels, some of the taps.
void run_block(
    const Accumulation& job,
    const Taps& taps,
    int64_t first_tap,
    int64_t num_taps,
    int64_t begin,
    int64_t size,
    int64_t block) {
  const Geometry& g = *job.geometry;
  const int64_t in = g.in_channels / g.groups;
  const int64_t out = g.out_channels / g.groups;
  const int64_t blocks = (out + kBlock - 1) / kBlock;
  const int64_t group = block / blocks, inner = block % blocks * kBlock;
  const int64_t channels = out - inner < kBlock ? out - inner : kBlock;
  const float* weight =
      job.weight + (block * g.positions() + first_tap) * in * kBlock;
  const int32_t* active = job.active + begin;
  for (int64_t c = 0; c < channels; c += 2 * kLanes) {
    const int64_t first = group * out + inner + c;
    const int64_t count = channels - c;
    int64_t at = 0;
    while (at < size) {
      // Within one tile, whose idle taps are known.
      const int64_t rest = kTile - at % kTile;
      const int64_t left = size - at < rest ? size - at : rest;
      at += count > kLanes
          ? run_largest_tile<2>(
                left, job, taps, num_taps, active, at, group * in, weight + c,
                first, count, first_tap == 0)
          : run_largest_tile<1>(
                left, job, taps, num_taps, active, at, group * in, weight + c,
                first, count, first_tap == 0);
    }
  }
}

void accumulate_outputs(
    const Accumulation& job,
    int64_t begin,
    int64_t end,
    int64_t first,
    int64_t last) {
  Taps taps;
  const int64_t positions = job.geometry->positions();
  for (int64_t at = begin; at < end; at += kChunk) {
    const int64_t size = end - at < kChunk ? end - at : kChunk;
    for (int64_t tap = 0; tap < positions; tap += kMaxTaps) {
      const int64_t some =
          positions - tap < kMaxTaps ? positions - tap : kMaxTaps;
      look_up(job, at, size, tap, some, taps);
      for (int64_t block = first; block < last; ++block) {
        run_block(job, taps, tap, some, at, size, block);
      }
    }
  }
}

// Channels [c, c + vectors * kLanes) of one output; weight is [tap][C].
template <int vectors>
MMSKIP_INLINE void depthwise_channels(
    const Accumulation& job,
    const Taps& taps,
    int64_t first_tap,
    int64_t num_taps,
    int64_t at,
    int64_t c,
    float* to) {
  const int64_t C = job.geometry->in_channels;
  Vector sums[vectors];
  const float* base =
      first_tap == 0 && job.bias != nullptr ? job.bias + c : to + c;
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    sums[v] = load(base + v * kLanes);
  }
  for (int64_t t = 0; t < num_taps; ++t) {
    const float* from = taps.from[t][at];
    if (from == job.zeros) {
      continue;
    }
    const float* w = job.weight + (first_tap + t) * C + c;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sums[v] += load(from + c + v * kLanes) * load(w + v * kLanes);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    store(to + c + v * kLanes, sums[v]);
  }
}

MMSKIP_INLINE void depthwise_output(
    const Accumulation& job,
    const Taps& taps,
    int64_t first_tap,
    int64_t num_taps,
    int64_t at,
    float* to) {
  const int64_t C = job.geometry->in_channels;
  int64_t c = 0;
  for (; c + 4 * kLanes <= C; c += 4 * kLanes) {
    depthwise_channels<4>(job, taps, first_tap, num_taps, at, c, to);
  }
  for (; c + kLanes <= C; c += kLanes) {
    depthwise_channels<1>(job, taps, first_tap, num_taps, at, c, to);
  }
  for (; c < C; ++c) {
    float sum =
        first_tap == 0 && job.bias != nullptr ? job.bias[c] : to[c];
    for (int64_t t = 0; t < num_taps; ++t) {
      sum += taps.from[t][at][c] * job.weight[(first_tap + t) * C + c];
    }
    to[c] = sum;
  }
}

void depthwise_outputs(const Accumulation& job, int64_t begin, int64_t end) {
  Taps taps;
  const Geometry& g = *job.geometry;
  for (int64_t at = begin; at < end; at += kChunk) {
    const int64_t size = end - at < kChunk ? end - at : kChunk;
    for (int64_t tap = 0; tap < g.positions(); tap += kMaxTaps) {
      const int64_t some =
          g.positions() - tap < kMaxTaps ? g.positions() - tap : kMaxTaps;
      look_up(job, at, size, tap, some, taps);
      for (int64_t i = 0; i < size; ++i) {
        float* to = job.output + job.active[at + i] * g.out_channels;
        depthwise_output(job, taps, tap, some, i, to);
      }
    }
  }
}

void emit_floats(
    const float* from, float* to, int64_t count, Activation activation) {
  if (activation == Activation::kReLU) {
    for (int64_t i = 0; i < count; ++i) {
      // As torch: a NaN stays one.
      to[i] = from[i] < 0 ? 0 : from[i];
    }
  } else if (activation == Activation::kSiLU) {
    for (int64_t i = 0; i < count; ++i) {
      to[i] = from[i] / (1 + __builtin_expf(-from[i]));
    }
  } else {
    __builtin_memcpy(to, from, count * sizeof(float));
  }
}

} // namespace

extern const Kernels MMSKIP_TABLE;
const Kernels MMSKIP_TABLE = {
    MMSKIP_NAME,
    residual_rows,
    accumulate_outputs,
    depthwise_outputs,
    support_sum_rows,
    emit_floats,
};

} // namespace mmskip
