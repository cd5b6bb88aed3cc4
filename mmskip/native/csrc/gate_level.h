// What a gate's residuals are compared with, over the frames of a stream.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "kernels.h"
#include "layer.h"

namespace mmskip {

// Rows of a map that are enough to tell a level; as in gate_mask.py.
constexpr int64_t kLevelRows = 32;

// Every so many rows of a map of this height are such.
inline int64_t level_step(int64_t height) {
  return (height + kLevelRows - 1) / kLevelRows;
}

// Rows of a stream's signal: width * channels numbers each, `step` apart.
template <typename T>
struct Signal {
  const T* first;
  int64_t rows, step, width, channels;
  // What its numbers are multiplied by.
  float unit = 1;
};

// The difference of neighbours in a row of a signal, in units of the norms
// (C), if there are some: see relative_scale in gate_mask.py.
template <typename T>
float level(const Signal<T>& signal, const float* norms);

// The factor by which a gate multiplies residuals; of a relative gate one for
// each stream, which is taken anew when half of the outputs were computed.
class GateLevel {
 public:
  // Computed, of a relative gate: the outputs since the level was taken.
  GateLevel(
      const Layer& layer,
      const Geometry& geometry,
      at::Tensor scale,
      std::optional<at::Tensor> computed);

  // The layer's rule for outputs of this geometry.
  Rule rule(const Layer& layer, const Geometry& geometry) const;

  // Takes the levels of all streams anew: level_of(stream) is one.
  template <typename LevelOf>
  void begin(const LevelOf& level_of) {
    if (computed_) {
      computed_->zero_();
      for (int64_t n = 0; n < scale_.numel(); ++n) {
        scale_.mutable_data_ptr<float>()[n] = 1 / level_of(n);
      }
    }
  }

  // The same of streams of which enough of `size` outputs were computed.
  template <typename LevelOf>
  void renew(
      const std::vector<int64_t>& counts,
      int64_t size,
      const LevelOf& level_of) {
    if (!computed_) {
      return;
    }
    int64_t* computed = computed_->mutable_data_ptr<int64_t>();
    for (size_t n = 0; n < counts.size(); ++n) {
      computed[n] += counts[n];
      if (2 * computed[n] >= size) {
        computed[n] = 0;
        scale_.mutable_data_ptr<float>()[n] = 1 / level_of(n);
      }
    }
  }

 private:
  at::Tensor scale_;
  std::optional<at::Tensor> computed_;
};

} // namespace mmskip
