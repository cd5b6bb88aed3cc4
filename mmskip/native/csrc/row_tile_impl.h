// Outputs side by side in a row, computed in matrix tiles.
// Part of convolve_impl.h.
#pragma once

#include "tile_impl.h"

namespace mmskip {
namespace {

#if defined(MMSKIP_TILES) || defined(MMSKIP_TILES_EMULATED)

// Fewer of them in a row are computed one by one.
constexpr int64_t kFewInRow = 3;

// Holds the tiles of a thread in the shapes that a layer needs, for images of
// a type.
template <typename T>
class RowTiles {
 public:
  explicit RowTiles(const Geometry& g, const Runs& runs)
      : outputs_(g.out_width < kTileRows ? g.out_width : kTileRows),
        step_(g.stride_width * g.in_channels * sizeof(T)),
        rest_(runs.length % kLength),
        // In the last word there may be some that are not of the run.
        fits_(runs.length % kPacked<T> == 0) {
    if (fits_) {
      configure_tiles(tile_shapes(outputs_, rest_ / kPacked<T>));
    }
  }
  ~RowTiles() {
    if (fits_) {
      release_tiles();
    }
  }
  RowTiles(const RowTiles&) = delete;
  RowTiles& operator=(const RowTiles&) = delete;

  bool fits() const { return fits_; }
  int64_t outputs() const { return outputs_; }

  // The sums of outputs(), from the first one's first element on.
  void sum(
      const T* from,
      const int64_t* offsets,
      const Runs& runs,
      const WeightOf<T>* weight,
      float (*to)[kBlock]) const {
    constexpr int64_t kernel_step = kBlock * sizeof(uint32_t);
    constexpr int64_t sums_step = kBlock * sizeof(float);
    // Where the other 16 channels of a packed row begin.
    constexpr int64_t half = kTileWords * kPacked<T>;
    const int64_t whole = runs.length - rest_;
    clear_tile<kFirstSums>();
    clear_tile<kLastSums>();
    for (int64_t run = 0; run < runs.count; ++run) {
      const T* x = from + offsets[run];
      const WeightOf<T>* w = weight + run * runs.length * kBlock;
      for (int64_t c = 0; c < whole; c += kLength) {
        load_tile<kElements>(x + c, step_);
        load_tile<kFirstKernel>(w + c * kBlock, kernel_step);
        multiply_tiles<T, kFirstSums, kElements, kFirstKernel>();
        load_tile<kLastKernel>(w + c * kBlock + half, kernel_step);
        multiply_tiles<T, kLastSums, kElements, kLastKernel>();
      }
      if (rest_ > 0) {
        load_tile<kFewElements>(x + whole, step_);
        load_tile<kFewFirst>(w + whole * kBlock, kernel_step);
        multiply_tiles<T, kFirstSums, kFewElements, kFewFirst>();
        load_tile<kFewLast>(w + whole * kBlock + half, kernel_step);
        multiply_tiles<T, kLastSums, kFewElements, kFewLast>();
      }
    }
    store_tile<kFirstSums>(to[0], sums_step);
    store_tile<kLastSums>(to[0] + kBlock / 2, sums_step);
    if constexpr (sizeof(T) == 1) {
      for (int64_t i = 0; i < outputs_; ++i) {
        for (int64_t c = 0; c < kBlock; c += kLanes) {
          Bits whole_sums;
          __builtin_memcpy(&whole_sums, to[i] + c, sizeof(whole_sums));
          store(to[i] + c, as_floats(whole_sums));
        }
      }
    }
  }

 private:
  // Elements in a row of a tile.
  static constexpr int64_t kLength = kTileWords * kPacked<T>;

  const int64_t outputs_, step_, rest_;
  const bool fits_;
};

#endif

} // namespace
} // namespace mmskip
