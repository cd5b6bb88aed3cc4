#include "mask.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace mmskip {

bool Rule::fires_at_rest(int64_t stream) const {
  const float factor = scale[scale_by_stream ? stream : 0];
  // Not `>`: a NaN is computed, not hidden.
  return !((bias != nullptr ? *bias : factor * 0) <= threshold);
}

void grow_blocks(
    uint8_t* mask, int64_t height, int64_t width, int64_t block_size) {
  for (int64_t top = 0; top < height; top += block_size) {
    const int64_t bottom =
        top + block_size < height ? top + block_size : height;
    uint8_t* first = mask + top * width;
    for (int64_t h = top + 1; h < bottom; ++h) {
      const uint8_t* row = mask + h * width;
      for (int64_t w = 0; w < width; ++w) {
        first[w] |= row[w];
      }
    }
    for (int64_t left = 0; left < width; left += block_size) {
      const int64_t right =
          left + block_size < width ? left + block_size : width;
      uint8_t found = 0;
      for (int64_t w = left; w < right; ++w) {
        found |= first[w];
      }
      std::memset(first + left, found, right - left);
    }
    for (int64_t h = top + 1; h < bottom; ++h) {
      std::memcpy(mask + h * width, first, width);
    }
  }
}

namespace {

bool is_any(const uint8_t* row, int64_t width) {
  return std::memchr(row, 1, width) != nullptr;
}

// Of a transposed convolution: outputs side by side read others of the
// kernel's positions.
void transmit_to_phases(
    const Geometry& g,
    const uint8_t* mask,
    uint8_t* transmitted,
    int64_t begin,
    int64_t end) {
  const int64_t padded = g.padded_width();
  std::vector<uint8_t> wanted(g.out_width);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t stream = row / g.padded_height();
    const int64_t h = row % g.padded_height() - g.top;
    uint8_t* to = transmitted + row * padded;
    std::memset(to, 0, padded);
    if (h < 0 || h >= g.height) {
      continue;
    }
    std::fill(wanted.begin(), wanted.end(), 1);
    for (int64_t kh = 0; kh < g.kernel_height; ++kh) {
      const int64_t out = h * g.stride_height - g.shift_height + kh;
      if (out < 0 || out >= g.out_height) {
        continue;
      }
      const uint8_t* own = mask + (stream * g.out_height + out) * g.out_width;
      for (int64_t w = 0; w < g.out_width; ++w) {
        wanted[w] &= own[w];
      }
    }
    if (!is_any(wanted.data(), g.out_width)) {
      continue;
    }
    for (int64_t w = 0; w < g.width; ++w) {
      const int64_t first = w * g.stride_width - g.shift_width;
      const int64_t from = std::max<int64_t>(first, 0);
      const int64_t to_end = std::min(first + g.kernel_width, g.out_width);
      to[g.left + w] = std::all_of(
          wanted.data() + from, wanted.data() + std::max(from, to_end),
          [](uint8_t one) { return one != 0; });
    }
  }
}

void touched_phases(
    const Geometry& g,
    const uint8_t* transmitted,
    uint8_t* mask,
    int64_t begin,
    int64_t end) {
  const int64_t padded = g.padded_width();
  std::vector<uint8_t> rows(padded);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t stream = row / g.out_height;
    uint8_t* to = mask + row * g.out_width;
    std::memset(to, 0, g.out_width);
    std::fill(rows.begin(), rows.end(), 0);
    bool is_touched = false;
    for (int64_t kh = 0; kh < g.kernel_height; ++kh) {
      const int64_t read = g.row_read(row % g.out_height, kh);
      if (read < 0) {
        continue;
      }
      const uint8_t* line =
          transmitted + (stream * g.padded_height() + read) * padded;
      if (!is_any(line, padded)) {
        continue;
      }
      is_touched = true;
      for (int64_t w = 0; w < padded; ++w) {
        rows[w] |= line[w];
      }
    }
    for (int64_t kw = 0; is_touched && kw < g.kernel_width; ++kw) {
      const uint8_t* from = rows.data() + g.first_column_read(kw);
      uint8_t* out = to + g.first_reader(kw);
      for (int64_t w = 0; w < g.width; ++w) {
        out[w * g.stride_width] |= from[w];
      }
    }
  }
}

} // namespace

void transmit_inputs(
    const Geometry& g,
    const uint8_t* mask,
    uint8_t* transmitted,
    int64_t begin,
    int64_t end) {
  if (g.transposed) {
    transmit_to_phases(g, mask, transmitted, begin, end);
    return;
  }
  const int64_t padded = g.padded_width(), stride = g.stride_width;
  const int64_t reach = (g.kernel_width - 1) * g.dilation_width;
  // True if each column of the image is read by some output of a row.
  const bool is_all_read = g.dilation_width == 1 && g.kernel_width >= stride &&
      (g.out_width - 1) * stride + g.kernel_width >= g.left + g.width;
  // What the outputs want of a row: 1 where none of them reads, by its first
  // position in the kernel.
  std::vector<uint8_t> wanted(reach + padded);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t stream = row / g.padded_height();
    const int64_t h = row % g.padded_height();
    uint8_t* to = transmitted + row * padded;
    if (h < g.top || h >= g.top + g.height) {
      std::memset(to, 0, padded);
      continue;
    }
    std::fill(wanted.begin(), wanted.end(), 1);
    // Where a row of outputs wants nothing, no input that it reads is wanted
    // by all.
    bool is_wanted = true;
    for (int64_t kh = 0; is_wanted && kh < g.kernel_height; ++kh) {
      const int64_t from = h - kh * g.dilation_height;
      if (from < 0 || from % g.stride_height != 0 ||
          from / g.stride_height >= g.out_height) {
        continue;
      }
      const uint8_t* own =
          mask + (stream * g.out_height + from / g.stride_height) * g.out_width;
      is_wanted = !is_all_read || is_any(own, g.out_width);
      for (int64_t w = 0; w < g.out_width; ++w) {
        wanted[reach + w * stride] &= own[w];
      }
    }
    if (!is_wanted) {
      std::memset(to, 0, padded);
      continue;
    }
    std::memset(to, 1, padded);
    for (int64_t kw = 0; kw < g.kernel_width; ++kw) {
      const uint8_t* shifted = wanted.data() + reach - kw * g.dilation_width;
      for (int64_t w = 0; w < padded; ++w) {
        to[w] &= shifted[w];
      }
    }
    std::memset(to, 0, g.left);
    std::memset(to + g.left + g.width, 0, g.right);
  }
}

void touched_outputs(
    const Geometry& g,
    const uint8_t* transmitted,
    uint8_t* mask,
    int64_t begin,
    int64_t end) {
  if (g.transposed) {
    touched_phases(g, transmitted, mask, begin, end);
    return;
  }
  const int64_t padded = g.padded_width();
  const int64_t reach = (g.kernel_width - 1) * g.dilation_width;
  std::vector<uint8_t> rows(padded), touched(padded - reach);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t stream = row / g.out_height;
    const int64_t top = row % g.out_height * g.stride_height;
    const uint8_t* from = transmitted + (stream * g.padded_height() + top) * padded;
    uint8_t* to = mask + row * g.out_width;
    std::fill(rows.begin(), rows.end(), 0);
    bool is_touched = false;
    for (int64_t kh = 0; kh < g.kernel_height; ++kh) {
      const uint8_t* line = from + kh * g.dilation_height * padded;
      if (!is_any(line, padded)) {
        continue;
      }
      is_touched = true;
      for (int64_t w = 0; w < padded; ++w) {
        rows[w] |= line[w];
      }
    }
    if (!is_touched) {
      std::memset(to, 0, g.out_width);
      continue;
    }
    std::fill(touched.begin(), touched.end(), 0);
    for (int64_t kw = 0; kw < g.kernel_width; ++kw) {
      const uint8_t* shifted = rows.data() + kw * g.dilation_width;
      for (int64_t w = 0; w < padded - reach; ++w) {
        touched[w] |= shifted[w];
      }
    }
    for (int64_t w = 0; w < g.out_width; ++w) {
      to[w] = touched[w * g.stride_width];
    }
  }
}

void take_phase(const Geometry& g, const uint8_t* mask, uint8_t* own) {
  const int64_t width = g.out_width, rows = g.streams * g.out_height;
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t* from = mask +
        (row * g.row_step + g.first_row) * width * g.column_step +
        g.first_column;
    for (int64_t w = 0; w < width; ++w) {
      own[row * width + w] = from[w * g.column_step];
    }
  }
}

int64_t compact(
    const uint8_t* mask, int64_t size, int64_t first, int32_t* active) {
  int64_t count = 0, i = 0;
  while (i < size) {
    // Most of it is 0.
    uint64_t words[4];
    while (i + 32 <= size) {
      std::memcpy(words, mask + i, sizeof(words));
      if (((words[0] | words[1]) | (words[2] | words[3])) != 0) {
        break;
      }
      i += 32;
    }
    if (i == size) {
      break;
    }
    uint64_t eight = 1;
    if (i + 8 <= size) {
      std::memcpy(&eight, mask + i, 8);
    }
    const int64_t stop = i + 8 <= size ? i + 8 : size;
    for (; eight != 0 && i < stop; ++i) {
      active[count] = static_cast<int32_t>(first + i);
      count += mask[i];
    }
    i = stop;
  }
  return count;
}

} // namespace mmskip
