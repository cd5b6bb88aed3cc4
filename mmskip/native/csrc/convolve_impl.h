// Outputs computed anew, in one pass: multiplied, summed, activated, rounded.
// Part of kernels_impl.h.
#pragma once

#include "activation_impl.h"
#include "row_tile_impl.h"
#include "taps_impl.h"

namespace mmskip {
namespace {

// The first element that an output reads of a padded image.
MMSKIP_INLINE int64_t first_read(const Geometry& g, int64_t index) {
  const int64_t stream = index / g.out_size();
  const int64_t place = index - stream * g.out_size();
  const int64_t h = place / g.out_width * g.stride_height + g.unread_height;
  const int64_t w = place % g.out_width * g.stride_width + g.unread_width;
  return (stream * g.padded_size() + h * g.padded_width() + w) *
      g.in_channels;
}

// The sums of `pixels` outputs over one run, for `vectors` of channels.
template <int pixels, int vectors>
MMSKIP_INLINE void add_run(
    const float* const (&from)[pixels],
    int64_t length,
    const float* weight,
    Vector (&sums)[pixels][vectors]) {
  for (int64_t c = 0; c < length; ++c, weight += kBlock) {
    Vector row[vectors];
    prefetch(weight + 32 * kBlock, kBlock);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      row[v] = load(weight + v * kLanes);
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

MMSKIP_INLINE Words load_words(const void* from) {
  return *reinterpret_cast<const LooseWords*>(from);
}

// A word of elements in all lanes.
MMSKIP_INLINE Words word_at(const void* from) {
  const LooseWord* word = reinterpret_cast<const LooseWord*>(from);
#if defined(__AVX2__)
  // Compilers shift in another register first, and move the result here.
  Words all;
  __asm__("vpbroadcastd %1, %0" : "=v"(all) : "m"(*word));
  return all;
#else
  return Words{} + *word;
#endif
}

// A pair; behind the last of an odd number is one that is not of the run.
template <bool is_whole>
MMSKIP_INLINE Words pair_at(const BFloat16* from) {
  return is_whole ? word_at(from) : word_at(from) & UINT32_C(0xffff);
}

#if defined(__AVX512BF16__)

// The products of a pair of elements of each output with a row of kernels.
template <bool is_whole, int pixels, int vectors>
MMSKIP_INLINE void add_pairs(
    const BFloat16* const (&from)[pixels],
    int64_t c,
    const BFloat16* weight,
    Vector (&sums)[pixels][vectors]) {
  Words rows[vectors];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    rows[v] = load_words(weight + 2 * v * kLanes);
  }
#pragma GCC unroll 16
  for (int i = 0; i < pixels; ++i) {
    const Words pair = pair_at<is_whole>(from[i] + c);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      __asm__("vdpbf16ps %2, %1, %0"
              : "+v"(sums[i][v])
              : "v"(rows[v]), "v"(pair));
    }
  }
}

#else

// The same in floats.
template <bool is_whole, int pixels, int vectors>
MMSKIP_INLINE void add_pairs(
    const BFloat16* const (&from)[pixels],
    int64_t c,
    const BFloat16* weight,
    Vector (&sums)[pixels][vectors]) {
  const auto first_of = [](Words pairs) {
    return reinterpret_cast<Vector>(pairs << 16);
  };
  const auto second_of = [](Words pairs) {
    return reinterpret_cast<Vector>(pairs & UINT32_C(0xffff0000));
  };
  Vector first[vectors], second[vectors];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const Words row = load_words(weight + 2 * v * kLanes);
    first[v] = first_of(row);
    second[v] = second_of(row);
  }
#pragma GCC unroll 16
  for (int i = 0; i < pixels; ++i) {
    const Words pair = pair_at<is_whole>(from[i] + c);
    const Vector one = first_of(pair), other = second_of(pair);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sums[i][v] += first[v] * one;
      sums[i][v] += second[v] * other;
    }
  }
}

#endif

// The same in bfloat16, two elements at a time.
template <int pixels, int vectors>
MMSKIP_INLINE void add_run(
    const BFloat16* const (&from)[pixels],
    int64_t length,
    const BFloat16* weight,
    Vector (&sums)[pixels][vectors]) {
  int64_t c = 0;
  for (; c + 2 <= length; c += 2, weight += 2 * kBlock) {
    prefetch(weight + 32 * kBlock, 2 * kBlock);
    add_pairs<true>(from, c, weight, sums);
  }
  if (c < length) {
    add_pairs<false>(from, c, weight, sums);
  }
}

// Adds the products of four bytes of an image with four weights each.
MMSKIP_INLINE void add_bytes(Words four, Words weights, Bits& sums) {
#if defined(MMSKIP_VNNI) && MMSKIP_BYTES == 64
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(four), "v"(weights));
#elif defined(MMSKIP_VNNI)
  __asm__("%{vex%} vpdpbusd %2, %1, %0"
          : "+x"(sums) : "x"(four), "x"(weights));
#elif defined(__AVX2__)
  // Pairs of products fit into 16 bits: see kMostWeight.
  const Words ones = Words{} + UINT32_C(0x00010001);
  Bits products;
  __asm__("vpmaddubsw %2, %1, %0"
          : "=v"(products) : "v"(four), "v"(weights));
  __asm__("vpmaddwd %1, %0, %0" : "+v"(products) : "v"(ones));
  sums += products;
#else
#pragma GCC unroll 4
  for (int bits = 0; bits < 32; bits += 8) {
    const Bits weight = reinterpret_cast<Bits>(weights << (24 - bits)) >> 24;
    sums += reinterpret_cast<Bits>(four >> bits & UINT32_C(255)) * weight;
  }
#endif
}

// The sums over one run in bytes, four elements at a time. Behind the last of
// a run weights are 0, so what lies there does not matter.
template <int pixels, int vectors>
MMSKIP_INLINE void add_run(
    const uint8_t* const (&from)[pixels],
    int64_t length,
    const int8_t* weight,
    Bits (&sums)[pixels][vectors]) {
  for (int64_t c = 0; c < length; c += 4, weight += 4 * kBlock) {
    Words rows[vectors];
    prefetch(weight + 64 * kBlock, 4 * kBlock);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      rows[v] = load_words(weight + 4 * v * kLanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < pixels; ++i) {
      const Words four = word_at(from[i] + c);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        add_bytes(four, rows[v], sums[i][v]);
      }
    }
  }
}

// What products are added to: of bytes, whole numbers.
template <typename T>
struct SumsOf {
  using Type = Vector;
};

template <>
struct SumsOf<uint8_t> {
  using Type = Bits;
};

// Outputs in a register tile. Pairs that are taken apart need registers, too.
#if defined(__AVX512BF16__)
template <typename T>
constexpr int kTileOf = kTile;
#else
template <typename T>
constexpr int kTileOf = sizeof(T) == sizeof(BFloat16) ? kTile * 2 / 3 : kTile;
#endif

// What outputs of one block of channels come to.
struct Sums {
  float of[kTile][kBlock];
};

template <int pixels, int vectors, typename T>
void sum_tile(
    const T* const* base,
    const int64_t* offsets,
    const Runs& runs,
    const WeightOf<T>* weight,
    float (*to)[kBlock]) {
  typename SumsOf<T>::Type sums[pixels][vectors] = {};
  const int64_t step = runs.packed_length<T>() * kBlock;
  for (int64_t run = 0; run < runs.count; ++run) {
    const T* from[pixels];
    for (int i = 0; i < pixels; ++i) {
      from[i] = base[i] + offsets[run];
    }
    add_run<pixels, vectors>(from, runs.length, weight + run * step, sums);
  }
#pragma GCC unroll 16
  for (int i = 0; i < pixels; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      store(to[i] + v * kLanes, as_floats(sums[i][v]));
    }
  }
}

// Up to `left` outputs; returns how many.
template <int vectors, typename T, int pixels = kTileOf<T>>
MMSKIP_INLINE int64_t sum_largest_tile(
    int64_t left,
    const T* const* base,
    const int64_t* offsets,
    const Runs& runs,
    const WeightOf<T>* weight,
    float (*to)[kBlock]) {
  if (pixels == 1 || left >= pixels) {
    sum_tile<pixels, vectors>(base, offsets, runs, weight, to);
    return pixels;
  }
  if constexpr (pixels > 1) {
    return sum_largest_tile<vectors, T, pixels == 12 ? 8 : pixels / 2>(
        left, base, offsets, runs, weight, to);
  }
  return 1;
}

// What the outputs of a chunk have in common.
template <typename T>
struct Chunk {
  const Convolution<T>& job;
  const Runs& runs;
  // Where the runs begin, from the first element that an output reads on.
  const int64_t* offsets;
  // The outputs, the first elements that they read, where they lie, and where
  // their signals are kept.
  const int32_t* active;
  const T* const* base;
  ValueOf<T>* const* outputs;
  ValueOf<T>* const* signals;
  int64_t size;
};

// Up to a vector of channels of outputs [begin, end) of a chunk; `row(at)` is
// where the sums of one are.
template <ActivationKind kind, bool biased, typename T, typename Row>
MMSKIP_INLINE void finish_channels(
    const Chunk<T>& chunk,
    const Row& row,
    int64_t begin,
    int64_t end,
    int64_t channel,
    int64_t count) {
  const Convolution<T>& job = chunk.job;
  const Vector bias =
      biased ? Vector{} : load_up_to(job.bias + channel, count);
  const Vector scale =
      sizeof(T) == 1 ? load_up_to(job.scale + channel, count) : Vector{};
  for (int64_t at = begin; at < end; ++at) {
    Vector sum = load_up_to(row(at), count);
    if constexpr (!biased) {
      sum += bias;
    }
    if constexpr (sizeof(T) == 1) {
      sum *= scale;
    }
    store_up_to(
        chunk.outputs[at] + channel, activate<kind>(sum, job.activation),
        count);
    if (chunk.signals[at] != nullptr) {
      store_up_to(chunk.signals[at] + channel, sum, count);
    }
  }
}

// Channels [first, first + count) of outputs [begin, end) of a chunk; `row(at)`
// is where the sums of one are. The bias is added, unless sums are biased
// already.
template <bool biased, typename T, typename Row>
MMSKIP_INLINE void finish(
    const Chunk<T>& chunk,
    const Row& row,
    int64_t begin,
    int64_t end,
    int64_t first,
    int64_t count) {
  for_kind(chunk.job.activation.kind, [&](auto known) MMSKIP_ALWAYS {
    for (int64_t c = 0; c < count; c += kLanes) {
      const auto finish_some = [&](int64_t some) MMSKIP_ALWAYS {
        finish_channels<decltype(known)::kind, biased>(
            chunk, [&](int64_t at) MMSKIP_ALWAYS { return row(at) + c; },
            begin, end, first + c, some);
      };
      // A known number of channels is not asked for in each output.
      count - c >= kLanes ? finish_some(kLanes) : finish_some(count - c);
    }
  });
}

// A block of channels.
template <typename T>
struct Block {
  Block(const Chunk<T>& chunk, int64_t block) {
    const Geometry& g = *chunk.job.geometry;
    const int64_t out = g.out_channels / g.groups;
    const int64_t blocks = (out + kBlock - 1) / kBlock;
    const int64_t group = block / blocks, inner = block % blocks * kBlock;
    const int64_t length = chunk.runs.template packed_length<T>();
    first = group * out + inner;
    count = out - inner < kBlock ? out - inner : kBlock;
    input = group * (g.in_channels / g.groups);
    weight = chunk.job.weight + block * chunk.runs.count * length * kBlock;
  }

  // The first channel, how many there are, and the first one they read.
  int64_t first, count, input;
  const WeightOf<T>* weight;
};

// Outputs [begin, end) of a chunk, in vectors.
template <typename T>
void convolve_in_vectors(
    const Chunk<T>& chunk, const Block<T>& block, int64_t begin, int64_t end) {
  const T* own[kTileOf<T>];
  Sums sums;
  for (int64_t at = begin; at < end;) {
    const int64_t left = end - at < kTileOf<T> ? end - at : kTileOf<T>;
    for (int64_t i = 0; i < left; ++i) {
      own[i] = chunk.base[at + i] + block.input;
    }
    int64_t done = left;
    for (int64_t c = 0; c < block.count; c += 2 * kLanes) {
      // Packed elements of one channel lie side by side.
      const WeightOf<T>* from = block.weight + c * kPacked<T>;
      float(*to)[kBlock] =
          reinterpret_cast<float(*)[kBlock]>(&sums.of[0][c]);
      done = block.count - c > kLanes
          ? sum_largest_tile<2, T>(
                left, own, chunk.offsets, chunk.runs, from, to)
          : sum_largest_tile<1, T>(
                left, own, chunk.offsets, chunk.runs, from, to);
    }
    finish<false>(
        chunk, [&](int64_t i) MMSKIP_ALWAYS { return &sums.of[i - at][0]; },
        at, at + done, block.first, block.count);
    at += done;
  }
}

template <typename T>
void convolve_block(const Chunk<T>& chunk, int64_t number) {
  convolve_in_vectors(chunk, Block<T>(chunk, number), 0, chunk.size);
}

#if defined(MMSKIP_TILES) || defined(MMSKIP_TILES_EMULATED)

// The outputs of a chunk, parted: windows of a row, which are computed with
// what lies between, and those that have no others near them.
template <typename T>
class PartedChunk {
 public:
  PartedChunk(const Chunk<T>& chunk, int64_t outputs) : chunk_(chunk) {
    const Geometry& g = *chunk.job.geometry;
    for (int64_t at = 0, end; at < chunk.size; at = end) {
      const int64_t row = chunk.active[at] / g.out_width;
      const int64_t w = chunk.active[at] % g.out_width;
      const int64_t last = g.out_width - outputs;
      const int64_t first = row * g.out_width + (w < last ? w : last);
      end = at + 1;
      while (end < chunk.size && chunk.active[end] < first + outputs) {
        ++end;
      }
      if (end - at < kFewInWindow) {
        for (int64_t i = at; i < end; ++i, ++alone_) {
          base_[alone_] = chunk.base[i];
          outputs_[alone_] = chunk.outputs[i];
          signals_[alone_] = chunk.signals[i];
        }
      } else {
        windows_[count_++] = {first, at, end};
      }
    }
  }

  void convolve(const RowTiles<T>& tiles, int64_t number) const {
    const Block<T> block(chunk_, number);
    const bool narrow = block.count <= kTileWords;
    int64_t i = 0;
    for (; i + 2 <= count_; i += 2) {
      narrow ? convolve<2, 1>(tiles, block, i) : convolve<2, 2>(tiles, block, i);
    }
    for (; i < count_; ++i) {
      narrow ? convolve<1, 1>(tiles, block, i) : convolve<1, 2>(tiles, block, i);
    }
    if (alone_ > 0) {
      const Chunk<T> alone{
          chunk_.job, chunk_.runs, chunk_.offsets, nullptr,
          base_,      outputs_,    signals_,       alone_};
      convolve_in_vectors(alone, block, 0, alone_);
    }
  }

 private:
  // Windows from one on.
  template <int windows, int halves>
  void convolve(
      const RowTiles<T>& tiles, const Block<T>& block, int64_t begin) const {
    const Convolution<T>& job = chunk_.job;
    const T* from[windows];
    alignas(64) float sums[windows * kTileRows][kBlock];
    for (int i = 0; i < windows; ++i) {
      from[i] = job.image + block.input +
          first_read(*job.geometry, windows_[begin + i].first);
    }
    tiles.template sum<windows, halves>(
        from, chunk_.offsets, chunk_.runs, block.weight, sums);
    for (int i = 0; i < windows; ++i) {
      const RowWindow& window = windows_[begin + i];
      const auto row = [&](int64_t at) MMSKIP_ALWAYS {
        return &sums[i * kTileRows + chunk_.active[at] - window.first][0];
      };
      finish<false>(
          chunk_, row, window.begin, window.end, block.first, block.count);
    }
  }

  const Chunk<T>& chunk_;
  RowWindow windows_[kChunk];
  const T* base_[kChunk];
  ValueOf<T>* outputs_[kChunk];
  ValueOf<T>* signals_[kChunk];
  int64_t count_ = 0, alone_ = 0;
};

#endif

// Outputs side by side that share what they read, one filter per channel.
constexpr int kSideBySide = kTile >= 8 ? 8 : 4;

// Channels [first, first + count) of `outputs` outputs side by side, of layers
// with as many channels as filters. In a row of the kernel each input is read
// once, and each weight; `width` is that of the kernel.
template <int outputs, int width, typename T>
MMSKIP_INLINE void sum_side_by_side(
    const Convolution<T>& job,
    const int64_t* rows,
    const T* from,
    int64_t first,
    int64_t count,
    float (*to)[kBlock]) {
  const Geometry& g = *job.geometry;
  const int64_t C = g.in_channels;
  Vector sums[outputs];
  const Vector bias = load_up_to(job.bias + first, count);
#pragma GCC unroll 8
  for (int i = 0; i < outputs; ++i) {
    sums[i] = bias;
  }
  for (int64_t row = 0; row < g.kernel_height; ++row) {
    const T* x = from + rows[row * width] + first;
    const T* w = job.weight + row * width * C + first;
    Vector weights[width];
#pragma GCC unroll 8
    for (int t = 0; t < width; ++t) {
      weights[t] = load_up_to(w + t * C, count);
    }
#pragma GCC unroll 16
    for (int column = 0; column < outputs + width - 1; ++column) {
      const Vector value = load_up_to(x + column * C, count);
#pragma GCC unroll 8
      for (int t = 0; t < width; ++t) {
        if (0 <= column - t && column - t < outputs) {
          sums[column - t] += value * weights[t];
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < outputs; ++i) {
    store(to[i], sums[i]);
  }
}

// One output of any such layer.
template <typename T>
MMSKIP_INLINE void sum_alone(
    const Convolution<T>& job,
    const Runs& runs,
    const int64_t* offsets,
    const T* from,
    int64_t first,
    int64_t count,
    float* to) {
  const T* weight = job.weight + first;
  Vector sums = load_up_to(job.bias + first, count);
  // A product and its sum stay side by side, and so one rounding, as they are
  // where outputs share what they read.
  const auto add = [&](const auto& values) MMSKIP_ALWAYS {
    for (int64_t t = 0; t < runs.count; ++t) {
      sums += values(from + offsets[t] + first) *
          values(weight + t * job.geometry->in_channels);
    }
  };
  if (count >= kLanes) {
    add([](const auto* at) MMSKIP_ALWAYS { return load(at); });
  } else {
    add([&](const auto* at) MMSKIP_ALWAYS { return load_some(at, count); });
  }
  store(to, sums);
}

// All channels of `outputs` outputs of a chunk, which lie side by side.
template <int outputs, typename T>
void convolve_side_by_side(const Chunk<T>& chunk, int64_t at) {
  const Convolution<T>& job = chunk.job;
  const Geometry& g = *job.geometry;
  const int64_t C = g.in_channels;
  float sums[outputs][kBlock];
  for (int64_t first = 0; first < C; first += kBlock) {
    const int64_t count = C - first < kBlock ? C - first : kBlock;
    for (int64_t c = 0; c < count; c += kLanes) {
      const auto sum = [&](auto width) MMSKIP_ALWAYS {
        sum_side_by_side<outputs, decltype(width)::value>(
            job, chunk.offsets, chunk.base[at], first + c, count - c,
            reinterpret_cast<float(*)[kBlock]>(&sums[0][c]));
      };
      if (outputs == 1) {
        sum_alone(
            job, chunk.runs, chunk.offsets, chunk.base[at], first + c,
            count - c, &sums[0][c]);
      } else if (g.kernel_width == 3) {
        sum(Constant<3>{});
      } else if (g.kernel_width == 5) {
        sum(Constant<5>{});
      } else {
        sum(Constant<7>{});
      }
    }
    finish<true>(
        chunk, [&](int64_t i) MMSKIP_ALWAYS { return &sums[i - at][0]; }, at,
        at + outputs, first, count);
  }
}

// Outputs of layers with one filter per channel. Of those that lie side by
// side, the last ones may be computed twice: to the same values.
template <typename T>
void convolve_depthwise(const Chunk<T>& chunk) {
  const Geometry& g = *chunk.job.geometry;
  const int64_t width = g.kernel_width;
  const bool shares = g.stride_width == 1 && g.dilation_width == 1 &&
      (width == 3 || width == 5 || width == 7);
  constexpr int few = kSideBySide / 2;
  for (int64_t at = 0, end; at < chunk.size; at = end) {
    end = at + 1;
    while (shares && end < chunk.size && end - at < kChunk &&
           chunk.active[end] == chunk.active[end - 1] + 1 &&
           chunk.active[end] % g.out_width != 0) {
      ++end;
    }
    for (int64_t i = at; i < end;) {
      const int64_t left = end - i, whole = end - at;
      if (left >= kSideBySide || (whole >= kSideBySide && left > few)) {
        const int64_t begin = left < kSideBySide ? end - kSideBySide : i;
        convolve_side_by_side<kSideBySide>(chunk, begin);
        i = begin + kSideBySide;
      } else if (left >= few || (whole >= few && left > 1)) {
        const int64_t begin = left < few ? end - few : i;
        convolve_side_by_side<few>(chunk, begin);
        i = begin + few;
      } else {
        convolve_side_by_side<1>(chunk, i);
        ++i;
      }
    }
  }
}

// A row of outputs.
template <typename T>
struct OutputRow {
  OutputRow(const Convolution<T>& job, int64_t index) {
    const Geometry& g = *job.geometry;
    const int64_t row = index / g.out_width;
    const int64_t stream = row / g.out_height, h = row % g.out_height;
    begin = row * g.out_width;
    end = begin + g.out_width;
    image = job.image +
        (stream * g.padded_size() +
         (h * g.stride_height + g.unread_height) * g.padded_width() +
         g.unread_width) *
            g.in_channels;
    output = job.output + g.place_of(begin) * g.out_channels;
    // Among the rows of all phases.
    const int64_t at = h * g.row_step + g.first_row;
    if (job.signal != nullptr && at % job.signal_step == 0) {
      const int64_t rows =
          (g.out_height * g.row_step + job.signal_step - 1) / job.signal_step;
      signal = job.signal +
          ((stream * rows + at / job.signal_step) * g.out_width *
               g.column_step +
           g.first_column) *
              g.out_channels;
    }
  }

  // Its outputs.
  int64_t begin, end;
  // The first element that the first one reads, where it lies, and where its
  // signal is kept.
  const T* image;
  ValueOf<T>* output;
  ValueOf<T>* signal = nullptr;
};

// Outputs [begin, end), in chunks whose places are looked up once.
template <typename T, typename Run>
MMSKIP_INLINE void for_chunks(
    const Convolution<T>& job, int64_t begin, int64_t end, const Run& run) {
  const Geometry& g = *job.geometry;
  const Runs runs(g);
  int64_t offsets[kMaxRuns];
  for (int64_t i = 0; i < runs.count; ++i) {
    offsets[i] = runs.offset(g, i);
  }
  const int64_t step = g.stride_width * g.in_channels;
  const int64_t out_step = g.column_step * g.out_channels;
  const T* base[kChunk];
  ValueOf<T>* outputs[kChunk];
  ValueOf<T>* signals[kChunk];
  for (int64_t at = begin; at < end; at += kChunk) {
    const int64_t size = end - at < kChunk ? end - at : kChunk;
    const int32_t* active = job.active + at;
    // They ascend, so a row is looked up once.
    OutputRow<T> row(job, active[0]);
    for (int64_t i = 0; i < size; ++i) {
      if (active[i] >= row.end) {
        row = OutputRow<T>(job, active[i]);
      }
      const int64_t w = active[i] - row.begin;
      base[i] = row.image + w * step;
      outputs[i] = row.output + w * out_step;
      signals[i] = row.signal == nullptr ? nullptr : row.signal + w * out_step;
#if !defined(MMSKIP_TILES)
      // With tiles, memory has enough to do.
      prefetch(outputs[i], g.out_channels);
#endif
    }
    run(Chunk<T>{job, runs, offsets, active, base, outputs, signals, size});
  }
}

template <typename T>
void convolve_outputs(
    const Convolution<T>& job,
    int64_t begin,
    int64_t end,
    int64_t first,
    int64_t last) {
  const Geometry& g = *job.geometry;
  if constexpr (sizeof(T) > 1) {
    if (g.groups > 1 && g.groups == g.in_channels &&
        g.groups == g.out_channels) {
      for_chunks(job, begin, end, [](const Chunk<T>& chunk) {
        convolve_depthwise(chunk);
      });
      return;
    }
  }
#if defined(MMSKIP_TILES) || defined(MMSKIP_TILES_EMULATED)
  if constexpr (sizeof(T) < sizeof(float)) {
    const RowTiles<T> tiles(g, Runs(g));
    if (tiles.fits()) {
      for_chunks(job, begin, end, [&](const Chunk<T>& chunk) {
        const PartedChunk<T> parts(chunk, tiles.outputs());
        for (int64_t block = first; block < last; ++block) {
          parts.convolve(tiles, block);
        }
      });
      return;
    }
  }
#endif
  for_chunks(job, begin, end, [&](const Chunk<T>& chunk) {
    for (int64_t block = first; block < last; ++block) {
      convolve_block(chunk, block);
    }
  });
}

} // namespace
} // namespace mmskip
