// Outputs side by side in a row, computed in matrix tiles.
// Part of convolve_impl.h.
#pragma once

#include "tile_impl.h"

namespace mmskip {
namespace {

#if defined(MMSKIP_TILES) || defined(MMSKIP_TILES_EMULATED)

// Fewer of them in a row are computed one by one.
constexpr int64_t kFewInRow = 3;

// Holds the tiles of a thread in the shapes that a layer needs.
class RowTiles {
 public:
  explicit RowTiles(const Geometry& g, const Runs& runs)
      : outputs_(g.out_width < kTileRows ? g.out_width : kTileRows),
        step_(g.stride_width * g.in_channels * sizeof(BFloat16)),
        rest_(runs.length % (2 * kTilePairs)),
        // Behind an odd number there is one that is not of the run.
        fits_(runs.length % 2 == 0) {
    if (fits_) {
      configure_tiles(tile_shapes(outputs_, rest_ / 2));
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
      const BFloat16* from,
      const int64_t* offsets,
      const Runs& runs,
      const BFloat16* weight,
      float (*to)[kBlock]) const {
    constexpr int64_t kernel_step = 2 * kBlock * sizeof(BFloat16);
    constexpr int64_t sums_step = kBlock * sizeof(float);
    // Where the other 16 channels of a packed row begin.
    constexpr int64_t half = kBlock;
    const int64_t whole = runs.length - rest_;
    clear_tile<kFirstSums>();
    clear_tile<kLastSums>();
    for (int64_t run = 0; run < runs.count; ++run) {
      const BFloat16* x = from + offsets[run];
      const BFloat16* w = weight + run * runs.length * kBlock;
      for (int64_t c = 0; c < whole; c += 2 * kTilePairs) {
        load_tile<kElements>(x + c, step_);
        load_tile<kFirstKernel>(w + c * kBlock, kernel_step);
        multiply_tiles<kFirstSums, kElements, kFirstKernel>();
        load_tile<kLastKernel>(w + c * kBlock + half, kernel_step);
        multiply_tiles<kLastSums, kElements, kLastKernel>();
      }
      if (rest_ > 0) {
        load_tile<kFewElements>(x + whole, step_);
        load_tile<kFewFirst>(w + whole * kBlock, kernel_step);
        multiply_tiles<kFirstSums, kFewElements, kFewFirst>();
        load_tile<kFewLast>(w + whole * kBlock + half, kernel_step);
        multiply_tiles<kLastSums, kFewElements, kFewLast>();
      }
    }
    store_tile<kFirstSums>(to[0], sums_step);
    store_tile<kLastSums>(to[0] + kBlock / 2, sums_step);
  }

 private:
  const int64_t outputs_, step_, rest_;
  const bool fits_;
};

#endif

} // namespace
} // namespace mmskip
