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
  // Of a transposed one: output row h reads row (h + shift - k) / stride of the
  // input at row k of the kernel, where that is a whole number; so columns.
  bool transposed;
  int64_t shift_height, shift_width;
  // Of a phase of a transposed one, which is an ordinary convolution: what no
  // output reads at the top and the left of a padded image, and the rows and
  // columns of all outputs that are its own, every so many from the first on.
  int64_t unread_height = 0, unread_width = 0;
  int64_t first_row = 0, first_column = 0;
  int64_t row_step = 1, column_step = 1;

  int64_t positions() const { return kernel_height * kernel_width; }
  // How many positions an output reads; of a transposed one, on average.
  float mean_reads() const {
    const int64_t phases = transposed ? stride_height * stride_width : 1;
    return static_cast<float>(positions()) / static_cast<float>(phases);
  }
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

  // The row of a padded map that an output row reads at row k of the kernel;
  // -1: none.
  int64_t row_read(int64_t row, int64_t k) const {
    if (!transposed) {
      return row * stride_height + k * dilation_height;
    }
    const int64_t at = row + shift_height - k + top * stride_height;
    return at % stride_height == 0 ? at / stride_height : -1;
  }

  // Of a transposed one, the first output column that reads anything at column
  // k of the kernel, as every stride-th one from it on does, and the column
  // of a padded map that it reads.
  int64_t first_reader(int64_t k) const {
    const int64_t at = (k - shift_width) % stride_width;
    return at < 0 ? at + stride_width : at;
  }
  int64_t first_column_read(int64_t k) const {
    return (first_reader(k) + shift_width - k) / stride_width + left;
  }

  // Index of an output of a phase among those of all phases.
  int64_t place_of(int64_t index) const {
    if (row_step == 1 && column_step == 1) {
      return index;
    }
    return (index / out_width * row_step + first_row) *
        (out_width * column_step) +
        index % out_width * column_step + first_column;
  }
};

} // namespace mmskip
