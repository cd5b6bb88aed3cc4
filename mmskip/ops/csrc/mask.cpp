#include "mask.h"

#include <cstring>

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

// Calls visit(line of the padded map, row of the mask) for each row of
// outputs and each kernel position; the line begins where the row reads.
template <typename Visit>
void for_each_tap(const Geometry& g, Visit visit) {
  for (int64_t h = 0; h < g.out_height; ++h) {
    for (int64_t kh = 0; kh < g.kernel_height; ++kh) {
      const int64_t line = (h * g.stride_height + kh * g.dilation_height) *
          g.padded_width();
      for (int64_t kw = 0; kw < g.kernel_width; ++kw) {
        visit(line + kw * g.dilation_width, h * g.out_width);
      }
    }
  }
}

} // namespace

void send_inputs(
    const Geometry& g, const uint8_t* mask, uint8_t* sent) {
  std::memset(sent, 1, g.padded_size());
  const int64_t width = g.out_width, stride = g.stride_width;
  for_each_tap(g, [=](int64_t line, int64_t row) {
    if (stride == 1) {
      for (int64_t w = 0; w < width; ++w) {
        sent[line + w] &= mask[row + w];
      }
    } else {
      for (int64_t w = 0; w < width; ++w) {
        sent[line + w * stride] &= mask[row + w];
      }
    }
  });
  const int64_t padded = g.padded_width();
  std::memset(sent, 0, g.top * padded);
  for (int64_t h = g.top; h < g.top + g.height; ++h) {
    std::memset(sent + h * padded, 0, g.left);
    std::memset(sent + h * padded + g.left + g.width, 0, g.right);
  }
  std::memset(sent + (g.top + g.height) * padded, 0, g.bottom * padded);
}

void touched_outputs(
    const Geometry& g, const uint8_t* sent, uint8_t* mask) {
  std::memset(mask, 0, g.out_size());
  const int64_t width = g.out_width, stride = g.stride_width;
  for_each_tap(g, [=](int64_t line, int64_t row) {
    if (stride == 1) {
      for (int64_t w = 0; w < width; ++w) {
        mask[row + w] |= sent[line + w];
      }
    } else {
      for (int64_t w = 0; w < width; ++w) {
        mask[row + w] |= sent[line + w * stride];
      }
    }
  });
}

int64_t compact(
    const uint8_t* mask, int64_t size, int64_t first, int32_t* active) {
  int64_t count = 0, i = 0;
  while (i < size) {
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
