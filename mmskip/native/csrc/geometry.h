// Where a convolution over channels-last images reads and writes.
#pragma once

#include <cstdint>

namespace mmskip {

// Symbols: N streams, C channels, K kernel positions. Maps of the input are
// padded as the convolution pads it: (N, padded_height, padded_width).
struct Geometry {
  int64_t streams;
  int64_t height, width, in_channels;
  int64_t out_height, out_width, out_channels;
  int64_t kernel_height, kernel_width;
  int64_t stride_height, stride_width;
  int64_t top, bottom, left, right;
  int64_t dilation_height, dilation_width;
  int64_t groups;

  int64_t positions() const { return kernel_height * kernel_width; }
  int64_t padded_height() const { return height + top + bottom; }
  int64_t padded_width() const { return width + left + right; }
  int64_t padded_size() const { return padded_height() * padded_width(); }
  int64_t in_size() const { return height * width; }
  int64_t out_size() const { return out_height * out_width; }

  // Index of an input row (of all streams) in a padded map.
  int64_t padded_row(int64_t row) const {
    const int64_t stream = row / height;
    return (stream * padded_height() + row % height + top) * padded_width() +
        left;
  }
};

} // namespace mmskip
