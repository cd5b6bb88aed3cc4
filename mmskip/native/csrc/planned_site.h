// A Skip-Convolution with its memory of a stream, inside a plan.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "frame.h"
#include "layer.h"

namespace mmskip {

// With accumulated memory an output is the whole convolution of what was
// transmitted. So it is computed anew, activated and rounded in one pass: it
// is never read again, and no error can build up in it. Images are of floats,
// of bfloat16, or of bytes for values in bfloat16; sums are of floats, of
// bytes whole numbers.
class PlannedSite {
 public:
  virtual ~PlannedSite() = default;

  virtual const Geometry& geometry() const = 0;
  virtual int64_t num_bytes() const = 0;

  // Brings the memory, the result (N, C_out, H_out, W_out) and the mask of
  // outputs up to date; returns as CallSite::update().
  virtual std::pair<int64_t, bool> update(
      const at::Tensor& x,
      const Residuals& residuals,
      at::Tensor& result,
      uint8_t* mask) = 0;

  // The transmitted input and the output before the activation, as a call
  // site remembers them: of floats.
  virtual std::tuple<at::Tensor, at::Tensor> remembered() const = 0;

  // A reference frame.
  virtual void begin(const at::Tensor& x, at::Tensor& result) = 0;
};

// The dense convolution of a float image, as planned sites compute it: the
// outputs that a frame does not compute are then equal to those it would.
at::Tensor convolve_anew(
    const c10::intrusive_ptr<Layer>& layer, const at::Tensor& x);

// Continues the memory of a call site, of floats, with values of a type; see
// CallSite. The activation is applied to outputs, if the layer has none. With
// a grid the image is of bytes on it, and the type bfloat16.
std::unique_ptr<PlannedSite> plan_site(
    c10::intrusive_ptr<Layer> layer,
    const std::vector<at::Tensor>& memory,
    at::ScalarType type,
    Activation activation,
    const std::optional<Grid>& grid);

} // namespace mmskip
