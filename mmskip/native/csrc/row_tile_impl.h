// Outputs side by side in a row, computed in matrix tiles.
// Part of convolve_impl.h.
#pragma once

#include "tile_impl.h"

namespace mmskip {
namespace {

#if defined(MMSKIP_TILES) || defined(MMSKIP_TILES_EMULATED)

// Fewer of them in a window are not computed in tiles.
constexpr int64_t kFewInWindow = 2;

// Outputs side by side, some of which are to be computed: those of a chunk from
// one on to another.
struct RowWindow {
  int64_t first, begin, end;
};

// Holds the tiles of a thread in the shapes that a layer needs, for images of
// a type. A run is summed in steps of equally many words.
template <typename T>
class RowTiles {
 public:
  explicit RowTiles(const Geometry& g, const Runs& runs)
      : outputs_(g.out_width < kTileRows ? g.out_width : kTileRows),
        step_(g.stride_width * g.in_channels * sizeof(T)),
        length_(step_length(runs.length)) {
    if (fits()) {
      configure_tiles(tile_shapes(outputs_, length_ / kPacked<T>));
    }
  }
  ~RowTiles() {
    if (fits()) {
      release_tiles();
    }
  }
  RowTiles(const RowTiles&) = delete;
  RowTiles& operator=(const RowTiles&) = delete;

  bool fits() const { return length_ > 0; }
  int64_t outputs() const { return outputs_; }

  // The sums of `windows` (one or two) times outputs(), from the first ones'
  // first elements on, for `halves` of a block of channels. One tile of sums
  // waits for what was added to it last, four in turns do not.
  template <int windows, int halves>
  void sum(
      const T* const* from,
      const int64_t* offsets,
      const Runs& runs,
      const WeightOf<T>* weight,
      float (*to)[kBlock]) const {
    constexpr int64_t kernel_step = kBlock * sizeof(uint32_t);
    constexpr int64_t sums_step = kBlock * sizeof(float);
    // Where the other 16 channels of a packed row begin.
    constexpr int64_t half = kTileWords * kPacked<T>;
    clear_tile<kFirstSums>();
    clear_tile<kLastSums>();
    clear_tile<kOtherFirstSums>();
    clear_tile<kOtherLastSums>();
    const WeightOf<T>* w = weight;
    for (int64_t run = 0; run < runs.count; ++run) {
      const T* x = from[0] + offsets[run];
      const T* other = from[windows - 1] + offsets[run];
      for (int64_t c = 0; c < runs.length; c += length_) {
        load_tile<kFirstKernel>(w, kernel_step);
        load_tile<kElements>(x + c, step_);
        multiply_tiles<T, kFirstSums, kElements, kFirstKernel>();
        if constexpr (halves == 2) {
          load_tile<kLastKernel>(w + half, kernel_step);
          multiply_tiles<T, kLastSums, kElements, kLastKernel>();
        }
        if constexpr (windows == 2) {
          load_tile<kOtherElements>(other + c, step_);
          multiply_tiles<T, kOtherFirstSums, kOtherElements, kFirstKernel>();
          if constexpr (halves == 2) {
            multiply_tiles<T, kOtherLastSums, kOtherElements, kLastKernel>();
          }
        }
        w += length_ * kBlock;
      }
    }
    store_sums<kFirstSums>(to, sums_step);
    if constexpr (halves == 2) {
      store_sums<kLastSums>(to, sums_step);
    }
    if constexpr (windows == 2) {
      store_sums<kOtherFirstSums>(to + kTileRows, sums_step);
      if constexpr (halves == 2) {
        store_sums<kOtherLastSums>(to + kTileRows, sums_step);
      }
    }
  }

 private:
  // Elements of a step: as many as fit into a tile, or fewer of which equally
  // many are in each step. 0 if that were many steps more, or none: behind the
  // last element of a run there may be some that are not of it.
  static int64_t step_length(int64_t length) {
    const int64_t words = length / kPacked<T>;
    const int64_t least = (words + kTileWords - 1) / kTileWords;
    for (int64_t steps = least;
         length % kPacked<T> == 0 && 2 * steps <= 3 * least + 1; ++steps) {
      if (words % steps == 0) {
        return words / steps * kPacked<T>;
      }
    }
    return 0;
  }

  // Of whole numbers, as floats.
  template <Tile sums>
  MMSKIP_INLINE void store_sums(float (*to)[kBlock], int64_t step) const {
    constexpr bool last = sums == kLastSums || sums == kOtherLastSums;
    float* begin = to[0] + (last ? kBlock / 2 : 0);
    store_tile<sums>(begin, step);
    if constexpr (sizeof(T) == 1) {
      for (int64_t i = 0; i < outputs_; ++i, begin += kBlock) {
        for (int64_t c = 0; c < kBlock / 2; c += kLanes) {
          Bits whole_sums;
          __builtin_memcpy(&whole_sums, begin + c, sizeof(whole_sums));
          store(begin + c, as_floats(whole_sums));
        }
      }
    }
  }

  const int64_t outputs_, step_, length_;
};

#endif

} // namespace
} // namespace mmskip
