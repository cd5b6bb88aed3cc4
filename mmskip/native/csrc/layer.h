// A Skip-Convolution with all that a frame asks for but the frame.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string_view>
#include <vector>

#include "frame.h"

namespace mmskip {

// As the operators get them, see library.cpp.
struct LayerArguments {
  const at::Tensor& input;
  const at::Tensor& output;
  const at::Tensor& scale;
  const std::optional<at::Tensor>& computed;
  const std::optional<at::Tensor>& norms;
  const at::Tensor& weight;
  const std::optional<at::Tensor>& bias;
  const std::optional<at::Tensor>& region;
  at::IntArrayRef kernel_size;
  at::IntArrayRef stride;
  at::IntArrayRef padding;
  at::IntArrayRef dilation;
  int64_t groups;
  const at::Tensor& threshold;
  int64_t block_size;
  int64_t order;
  bool accumulated;
  const std::optional<at::Tensor>& gate_weight;
  const std::optional<at::Tensor>& gate_bias;
  std::string_view sees;
  // What becomes of the output where it is computed, in memory of its own.
  const std::optional<at::Tensor>& activated = std::nullopt;
  Activation activation = Activation::kNone;
};

class Layer {
 public:
  // Throws with what was expected and what came.
  explicit Layer(const LayerArguments& arguments);

  const Geometry& geometry() const { return geometry_; }
  const at::Tensor& output() const { return output_; }
  // The output, or what an activation makes of it.
  const at::Tensor& result() const {
    return activated_ ? *activated_ : output_;
  }

  // Elements of the maps of a frame.
  int64_t num_changed() const;
  int64_t num_scores() const;

  // Remembers a reference frame, and fills the result.
  void begin(const at::Tensor& x, const at::Tensor& output);

  // Brings both memories and the mask of outputs up to date; returns how
  // many outputs were computed, and whether the next frame, should no input
  // change, can compute any.
  std::pair<int64_t, bool> run(
      const at::Tensor& x, const Residuals& residuals, uint8_t* mask);

 private:
  int64_t update(Frame& frame, const float* x, uint8_t* mask);
  // What a relative gate multiplies residuals of a stream by.
  float level_scale(int64_t stream) const;
  // Takes a relative gate's level anew where it is due.
  void renew_level(const std::vector<int64_t>& counts);

  Geometry geometry_;
  Rule rule_;
  LearnedGate gate_;
  int64_t block_size_;
  bool accumulated_;
  at::Tensor input_;
  at::Tensor output_;
  at::Tensor weight_;
  // What accumulated sums begin with.
  at::Tensor start_;
  // What rule and gate point into.
  at::Tensor scale_;
  // Of a relative gate: outputs computed since its level was taken, and what
  // the deviation of each channel of the output is divided by; without norms
  // the level is that of the input.
  std::optional<at::Tensor> computed_;
  std::optional<at::Tensor> norms_;
  at::Tensor kernel_;
  std::optional<at::Tensor> gate_bias_;
  std::optional<at::Tensor> region_;
  std::optional<at::Tensor> activated_;
  Activation activation_;
};

// What a relative gate multiplies residuals by, (N, 1, 1, 1), given its signal
// (N, C, H, W); norms (C) are those of LayerArguments.
at::Tensor relative_scale(
    const at::Tensor& signal, const std::optional<at::Tensor>& norms);

} // namespace mmskip
