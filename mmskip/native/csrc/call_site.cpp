#include "call_site.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "arguments.h"
#include "kernels.h"
#include "layout.h"
#include "planned_site.h"
#include "share_rows.h"

namespace mmskip {
namespace {

float level_in(
    const at::Tensor& signal, int64_t stream, const float* norms) {
  const int64_t channels = signal.size(1), height = signal.size(2),
                width = signal.size(3), step = level_step(height);
  return level<float>(
      {signal.const_data_ptr<float>() + stream * height * width * channels,
       (height + step - 1) / std::max<int64_t>(step, 1),
       step * width * channels, width, channels},
      norms);
}

void copy_floats(const at::Tensor& from, at::Tensor& to) {
  const float* source = from.const_data_ptr<float>();
  float* target = to.mutable_data_ptr<float>();
  at::parallel_for(
      0, from.numel(), kGrain, [&](int64_t begin, int64_t end) {
        std::memcpy(
            target + begin, source + begin, (end - begin) * sizeof(float));
      });
}

// Gives a tensor the values of another of its size and layout, which nobody
// else has: their memory, where it is all of a storage.
void take_over(const at::Tensor& from, at::Tensor& to) {
  const size_t bytes = from.nbytes();
  if (from.storage().nbytes() != bytes || to.storage().nbytes() != bytes) {
    copy_floats(from, to);
    return;
  }
  at::DataPtr nothing(nullptr, at::kCPU);
  to.storage().set_data_ptr_noswap(
      from.storage().set_data_ptr(std::move(nothing)));
}

// A copy on which the activation was applied, channels last or contiguous.
// How torch rounds depends on where a value lies: it is applied first.
at::Tensor activated_copy(
    const at::Tensor& output, Activation activation, bool channels_last) {
  if (activation.is_none() && !channels_last) {
    return contiguous_copy(output);
  }
  at::Tensor result = at::empty_like(output);
  switch (activation.kind) {
    case ActivationKind::kNone:
      copy_floats(output, result);
      break;
    case ActivationKind::kReLU:
      at::clamp_min_out(result, output, 0);
      break;
    case ActivationKind::kSiLU:
      at::silu_out(result, output);
      break;
    case ActivationKind::kReLU6:
      at::hardtanh_out(result, output, 0, 6);
      break;
    case ActivationKind::kHardswish:
      at::hardswish_out(result, output);
      break;
    case ActivationKind::kLeakyReLU:
      at::leaky_relu_out(result, output, activation.slope);
      break;
  }
  return channels_last ? result : contiguous_copy(result);
}

// What an activation makes of float outputs, channels last; rounded as the
// kernels round, which activate what they compute.
void activate_rows(
    const at::Tensor& output, Activation activation, const at::Tensor& to) {
  const float* from = output.const_data_ptr<float>();
  const int64_t channels = output.size(1), width = output.size(3);
  const int64_t rows = output.size(0) * output.size(2);
  std::vector<uint8_t> mask(rows * width);
  std::vector<int32_t> counts(rows);
  const int64_t factor = 1;
  const Sum<float> job{
      output.size(0), output.size(2), width, channels, 1, &from, &factor, 0,
      nullptr, nullptr, true, nullptr, nullptr, activation,
      to.mutable_data_ptr<float>(), mask.data(), counts.data()};
  share_rows(rows, grain_of(width * channels), [&](int64_t b, int64_t e) {
    image_kernels<float>().add(job, b, e);
  });
}

const at::Tensor& memory_at(
    const std::vector<at::Tensor>& memory, size_t index) {
  TORCH_CHECK_VALUE(
      memory.size() == 3 || memory.size() == 4,
      "expected input, output and scale to remember and, of a relative gate, "
      "computed, got ", memory.size(), " tensors");
  return memory[index];
}

} // namespace

CallSite::CallSite(
    c10::intrusive_ptr<Layer> layer, std::vector<at::Tensor> memory)
    : layer_(std::move(layer)),
      input_(memory_at(memory, 0)),
      output_(memory_at(memory, 1)),
      geometry_(layer_->geometry_for(input_.sizes())),
      level_(
          *layer_, geometry_, memory_at(memory, 2),
          memory.size() > 3 ? std::optional(memory[3]) : std::nullopt) {
  check_memory(input_, "input");
  check_memory(output_, "output");
  const std::vector<int64_t> expected{
      geometry_.streams, geometry_.out_channels, geometry_.out_height,
      geometry_.out_width};
  TORCH_CHECK_VALUE(
      output_.sizes() == at::IntArrayRef(expected),
      "expected output of shape ", at::IntArrayRef(expected), ", got ",
      output_.sizes());
}

std::tuple<at::Tensor, at::Tensor> CallSite::run(const at::Tensor& x) {
  at::Tensor mask = at::empty(
      {geometry_.streams, 1, geometry_.out_height, geometry_.out_width},
      output_.options().dtype(at::kBool));
  std::vector<uint8_t> changed(num_changed());
  std::vector<float> scores(num_scores());
  update(
      x, {nullptr, changed.data(), scores.data()}, std::nullopt,
      reinterpret_cast<uint8_t*>(mask.mutable_data_ptr<bool>()));
  const bool channels_last =
      is_channels_last(x) || layer_->lies_last();
  return {activated_copy(output_, layer_->activation, channels_last), mask};
}

void CallSite::begin(
    const at::Tensor& x, const std::optional<at::Tensor>& activated) {
  check_frame(x, input_);
  const at::Tensor image = to_channels_last(x);
  const at::Tensor output = convolve_anew(layer_, image);
  check_frame(output, output_);
  copy_floats(image, input_);
  take_over(output, output_);
  if (activated) {
    activate_rows(output_, layer_->activation, *activated);
  }
  level_.begin([this](int64_t n) { return level_of(n); });
}

int64_t CallSite::num_changed() const {
  return geometry_.streams * geometry_.padded_size();
}

int64_t CallSite::num_scores() const {
  return num_changed() *
      score_maps(geometry_, layer_->gate->kernel.has_value());
}

std::pair<int64_t, bool> CallSite::update(
    const at::Tensor& x,
    const Residuals& residuals,
    const std::optional<at::Tensor>& activated,
    uint8_t* mask) {
  check_frame(x, input_);
  if (layer_->bias) {
    // It is the layer's own, and may have been given other values.
    check_channels(*layer_->bias, geometry_.out_channels, "bias");
  }
  if (output_.numel() == 0) {
    return {0, false};
  }
  const at::Tensor image = to_channels_last(x);
  const Gate& gate = *layer_->gate;
  const Rule rule = level_.rule(*layer_, geometry_);
  const LearnedGate learned{
      gate.kernel ? gate.kernel->const_data_ptr<float>() : nullptr,
      gate.input};
  Frame frame(geometry_, rule, learned, residuals, gate.block_size);
  const int64_t count = update(
      frame, image.const_data_ptr<float>(), residuals,
      activated ? activated->mutable_data_ptr<float>() : nullptr, mask);
  return {count, frame.stays_active()};
}

int64_t CallSite::update(
    Frame& frame,
    const float* x,
    const Residuals& residuals,
    float* activated,
    uint8_t* mask) {
  const bool accumulated = layer_->accumulated;
  const Reference<float> reference{input_.mutable_data_ptr<float>()};
  frame.compare(x, reference, !accumulated);
  if (frame.is_idle()) {
    std::memset(mask, 0, geometry_.streams * geometry_.out_size());
    return 0;
  }
  frame.decide(mask);
  if (accumulated && layer_->forced) {
    frame.renew(x, reference);
  } else if (accumulated) {
    frame.transmit(mask, x, reference);
  }
  frame.list(mask);
  const Results results{
      output_.mutable_data_ptr<float>(), activated, layer_->activation};
  const float* bias =
      accumulated ? layer_->start.const_data_ptr<float>() : nullptr;
  if (!geometry_.transposed) {
    frame.accumulate(
        reference.image, layer_->packed.const_data_ptr<float>(), bias,
        results);
  }
  for (const Phase& phase : layer_->phases) {
    const Geometry own = phase.geometry_for(geometry_);
    const Rule rule{};
    Frame part(own, rule, {}, residuals, 1);
    part.list(mask);
    part.accumulate(
        reference.image, phase.layer->packed.const_data_ptr<float>(), bias,
        results);
  }
  if (!accumulated) {
    frame.renew(x, reference);
  }
  level_.renew(
      frame.counts(), geometry_.out_size(),
      [this](int64_t n) { return level_of(n); });
  return frame.total();
}

float CallSite::level_of(int64_t stream) const {
  const std::optional<at::Tensor>& norms = layer_->gate->norms;
  return norms ? level_in(output_, stream, norms->const_data_ptr<float>())
               : level_in(input_, stream, nullptr);
}

at::Tensor relative_scale(
    const at::Tensor& signal, const std::optional<at::Tensor>& norms) {
  check_memory(signal, "signal");
  if (norms) {
    check_channels(*norms, signal.size(1), "norms");
  }
  at::Tensor scale = at::empty({signal.size(0), 1, 1, 1}, signal.options());
  float* to = scale.mutable_data_ptr<float>();
  for (int64_t n = 0; n < signal.size(0); ++n) {
    to[n] = 1 /
        level_in(signal, n, norms ? norms->const_data_ptr<float>() : nullptr);
  }
  return scale;
}

} // namespace mmskip
