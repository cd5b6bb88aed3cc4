#include "skip_frame.h"

#include <ATen/Parallel.h>

#include <cstring>
#include <vector>

#include "arguments.h"
#include "share_rows.h"

namespace mmskip {
namespace {

void copy(const float* from, float* to, int64_t count) {
  at::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
    std::memcpy(to + begin, from + begin, (end - begin) * sizeof(float));
  });
}

// Fills the result, in the one pass that a copy takes.
void activate(
    Activation activation, const at::Tensor& output, at::Tensor& result) {
  if (activation == Activation::kReLU) {
    at::clamp_min_out(result, output, 0);
  } else if (activation == Activation::kSiLU) {
    at::silu_out(result, output);
  } else {
    copy(
        output.const_data_ptr<float>(), result.mutable_data_ptr<float>(),
        output.numel());
  }
}

} // namespace

std::tuple<at::Tensor, at::Tensor> skip_frame(
    const at::Tensor& x,
    const LayerArguments& arguments,
    std::optional<std::string_view> activation) {
  Layer layer(arguments);
  const Geometry& g = layer.geometry();
  const Activation applied = parse_activation(activation);
  at::Tensor result = at::empty_like(layer.output());
  at::Tensor mask = at::empty(
      {g.streams, 1, g.out_height, g.out_width},
      layer.output().options().dtype(at::kBool));
  std::vector<uint8_t> changed(layer.num_changed());
  std::vector<float> scores(layer.num_scores());
  layer.run(
      x, {nullptr, changed.data(), scores.data()},
      reinterpret_cast<uint8_t*>(mask.mutable_data_ptr<bool>()));
  activate(applied, layer.output(), result);
  return {result, mask};
}

} // namespace mmskip
