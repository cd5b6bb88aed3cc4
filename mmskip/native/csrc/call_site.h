// A Skip-Convolution with its memory of a stream.
#pragma once

#include <ATen/ATen.h>
#include <torch/custom_class.h>

#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "frame.h"
#include "gate_level.h"
#include "layer.h"

namespace mmskip {

class CallSite : public torch::CustomClassHolder {
 public:
  // The memory, which frames update in place: input and output, channels
  // last, what the gate multiplies residuals by and, of a relative gate, how
  // many outputs of each stream were computed since its level was taken.
  CallSite(c10::intrusive_ptr<Layer> layer, std::vector<at::Tensor> memory);

  const Layer& layer() const { return *layer_; }
  const Geometry& geometry() const { return geometry_; }
  const at::Tensor& output() const { return output_; }

  // Elements of the maps of a frame.
  int64_t num_changed() const;
  int64_t num_scores() const;

  // One frame in one call. Skip-Convolutions for Efficient Video Processing
  // (CVPR 2021), Eq. 3. Returns the output, a copy on which the activation
  // was applied, laid out as torch's convolution would, and the mask of what
  // was computed.
  std::tuple<at::Tensor, at::Tensor> run(const at::Tensor& x);

  // Remembers a reference frame, which it computes. What the activation
  // makes of the output goes to `activated`, if there is one.
  void begin(const at::Tensor& x, const std::optional<at::Tensor>& activated);

  // Brings the memory and the mask of outputs up to date, and `activated`
  // where outputs are computed; returns how many are, and whether the next
  // frame, should no input change, can compute any.
  std::pair<int64_t, bool> update(
      const at::Tensor& x,
      const Residuals& residuals,
      const std::optional<at::Tensor>& activated,
      uint8_t* mask);

 private:
  int64_t update(
      Frame& frame,
      const float* x,
      const Residuals& residuals,
      float* activated,
      uint8_t* mask);
  // Of a relative gate, for the residuals of a stream.
  float level_of(int64_t stream) const;

  const c10::intrusive_ptr<Layer> layer_;
  at::Tensor input_;
  at::Tensor output_;
  Geometry geometry_;
  GateLevel level_;
};

// The factors (N, 1, 1, 1) of a relative gate for residuals, given its signal
// (N, C, H, W); norms (C) are those of Gate.
at::Tensor relative_scale(
    const at::Tensor& signal, const std::optional<at::Tensor>& norms);

} // namespace mmskip
