#include "dynamic.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "arguments.h"
#include "clips_last.h"
#include "frame.h"
#include "share_rows.h"

namespace mmskip {
namespace {

constexpr auto kClipsLast = at::MemoryFormat::ChannelsLast3d;

// True if there are channels, and those of a position lie side by side.
bool is_last(const at::Tensor& clips) {
  return clips.size(1) > 1 && clips.stride(1) == 1 && clips.is_contiguous(kClipsLast);
}

// The means, and the mean absolute differences of consecutive frames, of clips
// channels last.
void pool_last(const at::Tensor& clips, bool differences, at::Tensor& result) {
  const int64_t samples = clips.size(0), channels = clips.size(1);
  const int64_t frames = clips.size(2);
  const int64_t size = clips.size(3) * clips.size(4);
  const int64_t columns = result.size(1);
  at::Tensor sums = at::empty({samples, frames, columns}, result.options());
  const float* from = clips.const_data_ptr<float>();
  float* to = sums.mutable_data_ptr<float>();
  at::parallel_for(
      0, samples * frames, grain_of(size * channels),
      [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; ++at) {
          const float* frame = from + at * size * channels;
          float* own = to + at * columns;
          // The first frame differs from itself by 0.
          kernels().pool_frame(
              {size, channels, frame,
               at % frames > 0 ? frame - size * channels : frame, own,
               differences ? own + channels : nullptr});
        }
      });
  at::sum_out(result, sums, {1});
  result.slice(1, 0, channels).div_(frames * size);
  if (differences) {
    const int64_t pairs = std::max<int64_t>(frames - 1, 1);
    result.slice(1, channels).div_(pairs * size);
  }
}

at::Tensor pool_clips(const at::Tensor& x, bool differences) {
  const int64_t dim = x.dim(), height = x.size(-2), width = x.size(-1);
  const at::Tensor deep = dim == 5 ? x : x.unsqueeze(2);
  if (is_last(deep)) {
    at::Tensor result = at::empty(
        {x.size(0), differences ? 2 * x.size(1) : x.size(1)}, x.options());
    pool_last(deep, differences, result);
    return result;
  }
  const bool planes = (width == 1 || x.stride(-1) == 1) &&
      (height == 1 || x.stride(-2) == width);
  const at::Tensor clips = planes ? x : x.contiguous();
  const int64_t channels = x.size(1);
  at::Tensor result =
      at::empty({x.size(0), differences ? 2 * channels : channels},
                x.options());
  const ClipPool job{
      channels,
      dim == 5 ? x.size(2) : 1,
      height * width,
      clips.stride(0),
      clips.stride(1),
      dim == 5 ? clips.stride(2) : 0,
      clips.const_data_ptr<float>(),
      differences,
      result.mutable_data_ptr<float>()};
  at::parallel_for(
      0, x.size(0) * channels, grain_of(job.frames * job.size),
      [&](int64_t begin, int64_t end) {
        kernels().pool_clip(job, begin, end);
      });
  return result;
}

// Of options [begin, end) of each sample.
void keep_one_open(at::Tensor& weights, int64_t begin, int64_t end) {
  float* row = weights.mutable_data_ptr<float>();
  for (int64_t n = 0; n < weights.size(0); ++n, row += weights.size(1)) {
    const auto closed = [](float weight) { return weight == 0; };
    if (begin < end && std::all_of(row + begin, row + end, closed)) {
      row[end - 1] = 1;
    }
  }
}

// Multiplies the factors (N, K) by what an axis gives to the terms.
void weigh(
    at::TensorList axis,
    std::vector<float>& factors,
    int64_t samples,
    int64_t terms) {
  if (axis.empty()) {
    return;
  }
  TORCH_CHECK_VALUE(
      axis.size() == 2, "expected weights and a table of an axis, got ",
      axis.size(), " tensors");
  const at::Tensor &weights = axis[0], &table = axis[1];
  check_floats(weights, "weights");
  check_floats(table, "table");
  TORCH_CHECK_VALUE(
      weights.dim() == 2 && weights.size(0) == samples,
      "expected weights of ", samples, " samples, got shape ",
      weights.sizes());
  const int64_t used = weights.size(1);
  TORCH_CHECK_VALUE(
      table.is_contiguous() && table.dim() == 2 && table.size(0) == used &&
          table.size(1) == terms,
      "expected a contiguous table of shape [", used, ", ", terms,
      "], got ", table.sizes());
  const auto weight = weights.accessor<float, 2>();
  const float* rows = table.const_data_ptr<float>();
  for (int64_t n = 0; n < samples; ++n) {
    float* own = factors.data() + n * terms;
    for (int64_t k = 0; k < terms; ++k) {
      float sum = 0;
      for (int64_t option = 0; option < used; ++option) {
        sum += weight[n][option] * rows[option * terms + k];
      }
      own[k] *= sum;
    }
  }
}

// The planes of y, and of the result that is to be filled.
void mix_planes(
    const at::Tensor& y,
    const at::Tensor& sources,
    const at::Tensor& starts,
    const std::vector<float>& factors,
    const float* bias,
    at::Tensor& result) {
  const int64_t samples = y.size(0), terms = sources.numel();
  const int64_t sums = starts.numel(), size = y.size(3) * y.size(4);
  const PlaneSum job{
      y.size(1) * y.size(2),
      sums,
      size,
      y.const_data_ptr<float>(),
      result.mutable_data_ptr<float>(),
      starts.const_data_ptr<int64_t>(),
      terms,
      sources.const_data_ptr<int64_t>(),
      factors.data(),
      bias,
      result.size(2)};
  const int64_t each = size * (terms / sums + 1);
  at::parallel_for(
      0, samples * sums, grain_of(each), [&](int64_t begin, int64_t end) {
        kernels().sum_planes(job, begin, end);
      });
}

// Positions of a frame that a thread mixes at a time.
constexpr int64_t kPart = 1024;

// The same, channels last.
void mix_last(
    const at::Tensor& y,
    const at::Tensor& sources,
    const at::Tensor& starts,
    const std::vector<float>& factors,
    const float* bias,
    bool relu,
    at::Tensor& result) {
  const int64_t terms = sources.numel(), computed = y.size(1);
  const int64_t channels = result.size(1), frames = result.size(2);
  const int64_t size = y.size(3) * y.size(4);
  const int64_t* start = starts.const_data_ptr<int64_t>();
  const auto runs = list_mix_runs(
      channels, frames, start, sources.const_data_ptr<int64_t>(), terms,
      computed, size);
  const float* from = y.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  const int64_t parts = (size + kPart - 1) / kPart;
  const int64_t each = std::min(size, kPart) * channels;
  at::parallel_for(
      0, y.size(0) * frames * parts, grain_of(each),
      [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; ++at) {
          const int64_t frame = at / parts, first = at % parts * kPart;
          const int64_t n = frame / frames, t = frame % frames;
          mix_frame(
              {first, std::min(first + kPart, size), computed, channels,
               from + n * y.size(2) * size * computed,
               to + frame * size * channels, runs[t],
               factors.data() + n * terms, start + t, frames, bias, relu});
        }
      });
}

} // namespace

at::Tensor soft_gate(
    const at::Tensor& x,
    const at::Tensor& squeeze,
    const std::optional<at::Tensor>& squeeze_bias,
    const c10::List<std::optional<at::Tensor>>& norm,
    double eps,
    const at::Tensor& decide,
    const at::Tensor& beta,
    int64_t time) {
  check_floats(x, "x");
  TORCH_CHECK_VALUE(
      (x.dim() == 4 || x.dim() == 5) && x.numel() > 0,
      "expected clips (N, C, T, H, W) or images (N, C, H, W), got shape ",
      x.sizes());
  const int64_t pooled = x.dim() == 5 ? 2 * x.size(1) : x.size(1);
  TORCH_CHECK_VALUE(
      squeeze.dim() == 2 && squeeze.size(1) == pooled,
      "expected a layer of ", pooled, " inputs, got ", squeeze.sizes());
  at::Tensor hidden =
      at::linear(pool_clips(x, x.dim() == 5), squeeze, squeeze_bias);
  TORCH_CHECK_VALUE(
      norm.empty() || norm.size() == 4,
      "expected mean, variance, scale and shift of a norm, or nothing, got ",
      norm.size(), " tensors");
  if (!norm.empty()) {
    hidden = at::batch_norm(
        hidden, norm.get(2), norm.get(3), norm.get(0), norm.get(1), false, 0,
        eps, false);
  }
  at::Tensor weights =
      at::linear(hidden.tanh_(), decide).add_(beta).tanh_().clamp_min_(0);
  const int64_t options = weights.size(1);
  TORCH_CHECK_VALUE(
      0 <= time && time <= options, "expected 0 to ", options,
      " temporal options, got ", time);
  keep_one_open(weights, 0, time);
  keep_one_open(weights, time, options);
  return weights;
}

at::Tensor mix_options(
    const at::Tensor& y,
    at::TensorList time,
    at::TensorList channels,
    const at::Tensor& sources,
    const at::Tensor& starts,
    const std::optional<at::Tensor>& bias,
    at::IntArrayRef full,
    bool relu) {
  check_floats(y, "y");
  check_list(full, 2, 1, "full");
  TORCH_CHECK_VALUE(
      y.dim() == 5 &&
          (y.is_contiguous() || y.transpose(1, 2).is_contiguous() ||
           y.is_contiguous(kClipsLast)),
      "expected y (N, C, T, H, W), contiguous, or so frame by frame, or "
      "channels last, got shape ",
      y.sizes(), " and strides ", y.strides());
  const int64_t samples = y.size(0), terms = sources.numel();
  const int64_t sums = full[0] * full[1], planes = y.size(1) * y.size(2);
  for (const at::Tensor& places : {sources, starts}) {
    TORCH_CHECK_TYPE(
        places.scalar_type() == at::kLong && places.device().is_cpu() &&
            places.is_contiguous(),
        "expected contiguous terms of dtype int64 on the CPU, got ",
        places.scalar_type(), " on ", places.device());
  }
  const int64_t* source = sources.const_data_ptr<int64_t>();
  const int64_t* start = starts.const_data_ptr<int64_t>();
  TORCH_CHECK_VALUE(
      starts.numel() == sums && std::is_sorted(start, start + sums) &&
          start[0] >= 0 && start[sums - 1] <= terms &&
          std::all_of(
              source, source + terms,
              [&](int64_t s) { return 0 <= s && s < planes; }),
      "expected terms of ", sums, " sums of ", planes, " planes");
  std::vector<float> factors(samples * terms, 1.0f);
  weigh(time, factors, samples, terms);
  weigh(channels, factors, samples, terms);
  if (bias) {
    check_channels(*bias, full[0], "bias");
  }
  const float* added = bias ? bias->const_data_ptr<float>() : nullptr;
  const bool last = is_last(y);
  at::Tensor result = at::empty(
      {samples, full[0], full[1], y.size(3), y.size(4)}, y.options(),
      last ? kClipsLast : at::MemoryFormat::Contiguous);
  if (last) {
    mix_last(y, sources, starts, factors, added, relu, result);
    return result;
  }
  mix_planes(y, sources, starts, factors, added, result);
  return relu ? result.relu_() : result;
}

} // namespace mmskip
