// The weights and settings of a Skip-Convolution, whatever its inputs are.
#pragma once

#include <ATen/ATen.h>
#include <torch/custom_class.h>

#include <optional>
#include <string>
#include <vector>

#include "geometry.h"
#include "kernels.h"

namespace mmskip {

// The places that a convolution reads, as ConvGeometry in geometry.py.
struct ConvGeometry : public torch::CustomClassHolder {
  // Stride and dilation are (height, width); padding, of zeros, is top,
  // bottom, left and right. A transposed one goes from the outputs of such a
  // convolution to its inputs, which are stride times as large.
  ConvGeometry(
      std::vector<int64_t> stride,
      std::vector<int64_t> padding,
      std::vector<int64_t> dilation,
      int64_t groups,
      bool transposed);

  const std::vector<int64_t> stride, padding, dilation;
  const int64_t groups;
  const bool transposed;
};

// The gate that decides which outputs are computed, as GateParams in
// gate_mask.py.
struct Gate : public torch::CustomClassHolder {
  // Norms (C_out) are what signal_norms() makes of a relative gate whose
  // level is that of the output. Weight and bias are those of a learned gate,
  // and the input is what it convolves.
  Gate(
      double threshold,
      int64_t block_size,
      int64_t order,
      std::optional<at::Tensor> norms,
      std::optional<at::Tensor> weight,
      std::optional<at::Tensor> bias,
      const std::string& input);

  const float threshold;
  const int64_t block_size;
  const int order;
  const std::optional<at::Tensor> norms;
  // Channels last: one filter is [position][C_in].
  const std::optional<at::Tensor> kernel;
  const std::optional<at::Tensor> bias;
  const GateInput input;
};

// A weight in bytes: what it stands for is `scale` (C_out) times as much, in
// [-kMostWeight, kMostWeight].
struct ByteWeight {
  at::Tensor packed;
  at::Tensor scale;
  // (C_out): of the bytes of each filter, as floats.
  at::Tensor sums;
};

struct Layer;

// The outputs of a transposed layer that lie stride apart. They are those of
// an ordinary layer, which has a part of the kernel.
struct Phase {
  c10::intrusive_ptr<Layer> layer;
  int64_t row, column;
  // The first row and column of the input that the output at (row, column)
  // reads; 0 or less, if the kernel is not applied far from its middle.
  int64_t first_height, first_width;

  // The same place in a transposed layer of this geometry.
  Geometry geometry_for(const Geometry& whole) const;
};

struct Layer : public torch::CustomClassHolder {
  // Weight (C_out, C_in / groups, h, w), bias (C_out). What an activation
  // (see parse_activation) makes of outputs is returned; it is not remembered.
  Layer(
      const at::Tensor& weight,
      std::optional<at::Tensor> bias,
      c10::intrusive_ptr<ConvGeometry> geometry,
      c10::intrusive_ptr<Gate> gate,
      bool accumulated,
      const std::optional<std::string>& activation);

  // For an input of a size (N, C_in, H, W), if it is one that is taken.
  Geometry geometry_for(at::IntArrayRef input) const;

  // The dense convolution, as torch computes it.
  at::Tensor convolve(const at::Tensor& x) const;

  // True if a frame computes outputs anew: as no running sum, of a kernel
  // that is not too large.
  bool is_computed_anew() const {
    return accumulated && weight.size(2) * weight.size(3) <= kMaxRuns;
  }

  // True if the weight lies channels last, as torch keeps it.
  bool lies_last() const;

  // Lets outputs fire in a bool mask (H_out, W_out) only, whatever the gate
  // finds there; for benchmarks, which need a given share of them. All that
  // has changed counts as transmitted then.
  void force(const at::Tensor& mask);

  std::optional<at::Tensor> forced;
  const at::Tensor weight;
  // Of a transposed layer, of which nothing is packed itself.
  const std::vector<Phase> phases;
  // The weight in the order in which the kernels read it.
  const at::Tensor packed;
  // The same of another type, float or bfloat16, and in bytes.
  const at::Tensor& packed_as(at::ScalarType type) const;
  const ByteWeight& packed_in_bytes() const;
  const std::optional<at::Tensor> bias;
  // Start of accumulated sums: the bias, or zeros.
  const at::Tensor start;
  const c10::intrusive_ptr<ConvGeometry> geometry;
  const c10::intrusive_ptr<Gate> gate;
  const bool accumulated;
  const Activation activation;

 private:
  mutable at::Tensor halves_;
  mutable ByteWeight bytes_;
};

} // namespace mmskip
