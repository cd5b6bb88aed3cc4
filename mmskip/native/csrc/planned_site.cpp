#include "planned_site.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>

#include "arguments.h"
#include "crew.h"
#include "gate_level.h"
#include "layout.h"
#include "share_rows.h"

namespace mmskip {
namespace {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

template <typename T>
constexpr at::ScalarType kType = std::is_same_v<T, float> ? at::kFloat
    : std::is_same_v<T, BFloat16>                         ? at::kBFloat16
                                                          : at::kByte;

template <typename T>
at::Tensor new_padded(const Geometry& g, const Grid& grid) {
  return at::full(
      {g.streams * g.padded_size() * g.in_channels + kPacked<T>}, grid.zero,
      kType<T>);
}

// What images of a type are multiplied with, and what is added; with bytes
// then multiplied by the scale.
struct Weights {
  at::Tensor kernel, bias, scale;
};

template <typename T>
Weights weights_of(const Layer& layer, const Grid& grid) {
  if constexpr (std::is_same_v<T, uint8_t>) {
    const ByteWeight& bytes = layer.packed_in_bytes();
    const at::Tensor scale = bytes.scale * grid.step;
    // The border is of `zero`, too, so all outputs have as many of them.
    return {
        bytes.packed, layer.start / scale - bytes.sums * grid.zero, scale};
  } else {
    return {layer.packed_as(kType<T>), layer.start, {}};
  }
}

// Copies a whole frame into a padded image.
template <typename T>
void copy_inside(
    const Geometry& g, const ValueOf<T>* x, const Grid& grid, T* image) {
  const int64_t row = g.width * g.in_channels;
  share_rows(
      g.streams * g.height, grain_of(row), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          put_values(
              x + i * row, grid, row,
              image + g.padded_row(i) * g.in_channels);
        }
      });
}

// An ordinary convolution: all of a layer, or a phase of a transposed one.
template <typename T>
struct Part {
  Geometry geometry;
  Weights weights;
};

template <typename T>
std::vector<Part<T>> parts_of(
    const Layer& layer, const Geometry& geometry, const Grid& grid) {
  std::vector<Part<T>> parts;
  for (const Phase& phase : layer.phases) {
    parts.push_back(
        {phase.geometry_for(geometry), weights_of<T>(*phase.layer, grid)});
  }
  if (parts.empty()) {
    parts.push_back({geometry, weights_of<T>(layer, grid)});
  }
  return parts;
}

// Computes the outputs in a mask: job_for(weights) is what is asked for.
template <typename T, typename JobFor>
void convolve_parts(
    const std::vector<Part<T>>& parts,
    const uint8_t* mask,
    const JobFor& job_for) {
  const Rule rule{};
  for (const Part<T>& part : parts) {
    Frame frame(part.geometry, rule, {}, {}, 1);
    frame.list(mask);
    frame.convolve(job_for(part.weights));
  }
}

template <typename T>
class SiteOf final : public PlannedSite {
 public:
  SiteOf(
      c10::intrusive_ptr<Layer> layer,
      const std::vector<at::Tensor>& memory,
      Activation activation,
      const Grid& grid)
      : layer_(std::move(layer)),
        activation_(activation),
        grid_(grid),
        geometry_(layer_->geometry_for(memory[0].sizes())),
        level_(
            *layer_, geometry_, memory[2],
            memory.size() > 3 ? std::optional(memory[3]) : std::nullopt),
        parts_(parts_of<T>(*layer_, geometry_, grid)),
        step_(level_step(geometry_.out_height)) {
    image_ = new_padded<T>(geometry_, grid_);
    const at::Tensor input = memory[0].to(kType<Value>).contiguous(kLast);
    copy_inside(geometry_, data<Value>(input), grid_, data<T>(image_));
    if (layer_->gate->norms && !activation_.is_none()) {
      // Rows of the output: it is kept activated, and the level is of these.
      signal_ = memory[1]
                    .slice(2, 0, geometry_.out_height, step_)
                    .to(kType<Value>)
                    .contiguous(kLast);
    }
  }

  const Geometry& geometry() const override { return geometry_; }

  int64_t num_bytes() const override {
    return image_.nbytes() + (signal_.defined() ? signal_.nbytes() : 0);
  }

  std::pair<int64_t, bool> update(
      const at::Tensor& x,
      const Residuals& residuals,
      at::Tensor& result,
      uint8_t* mask) override {
    const at::Tensor image = laid_out(x);
    if (result.numel() == 0) {
      return {0, false};
    }
    const Rule rule = level_.rule(*layer_, geometry_);
    const Gate& gate = *layer_->gate;
    const LearnedGate learned{
        gate.kernel ? gate.kernel->const_data_ptr<float>() : nullptr,
        gate.input};
    Frame frame(geometry_, rule, learned, residuals, gate.block_size);
    const Value* from = data<Value>(image);
    const Reference<T> reference{data<T>(image_), true, grid_};
    frame.compare(from, reference, false);
    if (frame.is_idle()) {
      std::memset(mask, 0, geometry_.streams * geometry_.out_size());
      return {0, frame.stays_active()};
    }
    frame.decide(mask);
    if (layer_->forced) {
      frame.renew(from, reference);
    } else {
      frame.transmit(mask, from, reference);
    }
    frame.list(mask);
    if (geometry_.transposed) {
      convolve(mask, result);
    } else {
      frame.convolve(job_for(parts_[0].weights, result));
    }
    level_.renew(
        frame.counts(), geometry_.out_size(),
        [&](int64_t n) { return level_of(n, result); });
    return {frame.total(), frame.stays_active()};
  }

  std::tuple<at::Tensor, at::Tensor> remembered() const override {
    const Geometry& g = geometry_;
    at::Tensor input = at::empty(
        {g.streams, g.in_channels, g.height, g.width},
        at::TensorOptions().memory_format(kLast));
    const at::Tensor image =
        image_.narrow(0, 0, g.streams * g.padded_size() * g.in_channels)
            .view(
                {g.streams, g.padded_height(), g.padded_width(),
                 g.in_channels})
            .slice(1, g.top, g.top + g.height)
            .slice(2, g.left, g.left + g.width)
            .permute({0, 3, 1, 2});
    if constexpr (std::is_same_v<T, uint8_t>) {
      input.copy_(image.to(at::kFloat).sub(grid_.zero).mul(grid_.step));
    } else {
      input.copy_(image);
    }
    return {input, convolve_anew(layer_, input)};
  }

  void begin(const at::Tensor& x, at::Tensor& result) override {
    const at::Tensor image = laid_out(x);
    copy_inside(geometry_, data<Value>(image), grid_, data<T>(image_));
    const std::vector<uint8_t> all(
        geometry_.streams * geometry_.out_size(), 1);
    convolve(all.data(), result);
    level_.begin([&](int64_t n) { return level_of(n, result); });
  }

 private:
  using Value = ValueOf<T>;

  template <typename U>
  static const U* data(const at::Tensor& image) {
    return static_cast<const U*>(image.const_data_ptr());
  }
  template <typename U>
  static U* data(at::Tensor& image) {
    return static_cast<U*>(image.mutable_data_ptr());
  }

  // A frame, channels last.
  at::Tensor laid_out(const at::Tensor& x) const {
    const Geometry& g = geometry_;
    const std::vector<int64_t> expected{
        g.streams, g.in_channels, g.height, g.width};
    TORCH_CHECK_VALUE(
        x.scalar_type() == kType<Value> && x.device().is_cpu() &&
            x.sizes() == at::IntArrayRef(expected),
        "expected x of ", kType<Value>, " and shape ", at::IntArrayRef(expected),
        " on the CPU, got ", x.scalar_type(), " of shape ", x.sizes(), " on ",
        x.device());
    if constexpr (std::is_same_v<T, float>) {
      return to_channels_last(x);
    } else {
      return x.contiguous(kLast);
    }
  }

  // Computes the outputs in a mask.
  void convolve(const uint8_t* mask, at::Tensor& result) const {
    convolve_parts(parts_, mask, [&](const Weights& weights) {
      return job_for(weights, result);
    });
  }

  Convolution<T> job_for(const Weights& weights, at::Tensor& result) const {
    at::Tensor signal = signal_;
    return {
        nullptr,
        data<T>(image_),
        data<WeightOf<T>>(weights.kernel),
        weights.bias.template const_data_ptr<float>(),
        weights.scale.defined()
            ? weights.scale.template const_data_ptr<float>()
            : nullptr,
        activation_,
        data<Value>(result),
        signal.defined() ? data<Value>(signal) : nullptr,
        step_,
        nullptr};
  }

  // The level of a stream's signal: the output's, else the input's.
  float level_of(int64_t stream, const at::Tensor& result) const {
    const Geometry& g = geometry_;
    if (layer_->gate->norms) {
      const at::Tensor& signal = signal_.defined() ? signal_ : result;
      const int64_t step = signal_.defined() ? 1 : step_;
      const int64_t height = signal.size(2), row = g.out_width * g.out_channels;
      return level<Value>(
          {data<Value>(signal) + stream * height * row,
           (height + step - 1) / step, step * row, g.out_width,
           g.out_channels},
          layer_->gate->norms->const_data_ptr<float>());
    }
    const int64_t step = level_step(g.height);
    return level<T>(
        {data<T>(image_) + g.padded_row(stream * g.height) * g.in_channels,
         (g.height + step - 1) / step,
         step * g.padded_width() * g.in_channels, g.width, g.in_channels,
         grid_.step},
        nullptr);
  }

  const c10::intrusive_ptr<Layer> layer_;
  const Activation activation_;
  const Grid grid_;
  const Geometry geometry_;
  GateLevel level_;
  const std::vector<Part<T>> parts_;
  const int64_t step_;
  // What was transmitted, padded.
  at::Tensor image_;
  at::Tensor signal_;
};

} // namespace

at::Tensor convolve_anew(
    const c10::intrusive_ptr<Layer>& layer, const at::Tensor& x) {
  const Geometry g = layer->geometry_for(x.sizes());
  if (!layer->is_computed_anew() || g.out_size() == 0) {
    return layer->convolve(x).contiguous(kLast);
  }
  check_floats(x, "x");
  at::Tensor output = at::empty(
      {g.streams, g.out_channels, g.out_height, g.out_width},
      x.options().memory_format(kLast));
  at::Tensor image = new_padded<float>(g, {});
  copy_inside<float>(
      g, to_channels_last(x).const_data_ptr<float>(), {},
      image.mutable_data_ptr<float>());
  const std::vector<uint8_t> all(g.streams * g.out_size(), 1);
  convolve_parts(
      parts_of<float>(*layer, g, {}), all.data(), [&](const Weights& weights) {
        return Convolution<float>{
            nullptr, image.const_data_ptr<float>(),
            weights.kernel.const_data_ptr<float>(),
            weights.bias.const_data_ptr<float>(), nullptr, Activation{},
            output.mutable_data_ptr<float>(), nullptr, 1, nullptr};
      });
  return output;
}

std::unique_ptr<PlannedSite> plan_site(
    c10::intrusive_ptr<Layer> layer,
    const std::vector<at::Tensor>& memory,
    at::ScalarType type,
    Activation activation,
    const std::optional<Grid>& grid) {
  TORCH_CHECK_VALUE(
      layer->is_computed_anew(), "expected accumulated memory and a kernel of "
      "at most ", kMaxRuns, " positions, got another one");
  TORCH_CHECK_VALUE(
      memory.size() == 3 || memory.size() == 4,
      "expected input, output and scale to remember and, of a relative gate, "
      "computed, got ", memory.size(), " tensors");
  TORCH_CHECK_VALUE(
      layer->activation.is_none() || activation.is_none(),
      "expected one activation at most, got a second one");
  if (activation.is_none()) {
    activation = layer->activation;
  }
  if (grid) {
    const ConvGeometry& g = *layer->geometry;
    TORCH_CHECK_VALUE(
        g.groups == 1 || layer->weight.size(1) > 1,
        "expected another layer than a depthwise one for bytes");
    TORCH_CHECK_TYPE(
        type == at::kBFloat16, "expected values of bfloat16 for bytes, got ",
        type);
    return std::make_unique<SiteOf<uint8_t>>(
        std::move(layer), memory, activation, *grid);
  }
  if (type == at::kFloat) {
    return std::make_unique<SiteOf<float>>(
        std::move(layer), memory, activation, Grid{});
  }
  TORCH_CHECK_TYPE(
      type == at::kBFloat16, "expected images of float32 or bfloat16, got ",
      type);
  return std::make_unique<SiteOf<BFloat16>>(
      std::move(layer), memory, activation, Grid{});
}

} // namespace mmskip
