// One frame of a Skip-Convolution in one call. Skip-Convolutions for
// Efficient Video Processing (CVPR 2021), Eq. 3.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <tuple>
#include <vector>

#include "arguments.h"
#include "kernels.h"
#include "mask.h"

namespace mmskip {
namespace {

// Work below which a second thread costs more than it saves.
constexpr int64_t kGrainFloats = 1 << 15;
constexpr int64_t kGrainMacs = 1 << 18;
// Outputs handed out at a time: a multiple of every register tile.
constexpr int64_t kShare = 96;

// The best kernels for this CPU; ATEN_CPU_CAPABILITY limits it, as torch.
const Kernels& kernels() {
#if defined(__x86_64__)
  const std::string capability = at::get_cpu_capability();
  if (capability.rfind("AVX512", 0) == 0) {
    return kAVX512;
  }
  if (capability == "AVX2") {
    return kAVX2;
  }
#endif
  return kPortable;
}

// Everything of one call.
class Frame {
 public:
  Frame(const Geometry& geometry, const Rule& rule, int64_t block_size)
      : g_(geometry),
        rule_(rule),
        block_size_(block_size),
        kernels_(mmskip::kernels()),
        changed_(g_.streams * g_.padded_size()),
        magnitude_(g_.streams * g_.padded_size()),
        counts_(g_.streams * g_.height) {}

  // Compares x with the reference; returns whether there is any change.
  bool compare(const float* x, float* reference, bool subtract) {
    const int64_t rows = g_.streams * g_.height;
    at::parallel_for(0, rows, input_grain(), [&](int64_t begin, int64_t end) {
      kernels_.residual(
          g_, x, reference, magnitude_.data(), changed_.data(),
          counts_.data(), rule_.order, subtract, begin, end);
    });
    return std::any_of(
        counts_.begin(), counts_.end(), [](int32_t n) { return n > 0; });
  }

  // Whether outputs whose support has not changed stay closed.
  bool rests() const {
    for (int64_t n = 0; n < (rule_.scale_by_stream ? g_.streams : 1); ++n) {
      if (rule_.fires(0, n)) {
        return false;
      }
    }
    return true;
  }

  void decide(uint8_t* mask) {
    const int64_t rows = g_.streams * g_.out_height;
    std::vector<float> sums(g_.streams * g_.out_size());
    const int64_t work = std::max<int64_t>(g_.out_width * g_.positions(), 1);
    const int64_t grain = std::max<int64_t>(kGrainFloats / work, 1);
    at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
      kernels_.support_sum(g_, magnitude_.data(), sums.data(), begin, end);
      threshold_rows(g_, rule_, sums.data(), mask, begin, end);
    });
    grow(mask);
  }

  // From what the gate wants to what is sent and, by that, computed.
  void send(uint8_t* mask, const float* x, float* reference) {
    std::vector<uint8_t> sent(g_.padded_size());
    for (int64_t n = 0; n < g_.streams; ++n) {
      uint8_t* own = mask + n * g_.out_size();
      send_inputs(g_, own, sent.data());
      touched_outputs(g_, sent.data(), own);
      uint8_t* changed = changed_.data() + n * g_.padded_size();
      for (int64_t i = 0; i < g_.padded_size(); ++i) {
        changed[i] &= sent[i];
      }
    }
    grow(mask);
    renew(x, reference);
    for (int64_t row = 0; row < g_.streams * g_.height; ++row) {
      std::memset(changed_.data() + g_.padded_row(row), 1, g_.width);
    }
  }

  // The changed positions of the reference become those of x.
  void renew(const float* x, float* reference) {
    const int64_t rows = g_.streams * g_.height, C = g_.in_channels;
    at::parallel_for(0, rows, input_grain(), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        if (counts_[row] == 0) {
          continue;
        }
        const uint8_t* changed = changed_.data() + g_.padded_row(row);
        for (int64_t w = 0; w < g_.width; ++w) {
          if (changed[w]) {
            const int64_t at = (row * g_.width + w) * C;
            std::memcpy(reference + at, x + at, C * sizeof(float));
          }
        }
      }
    });
  }

  void list(const uint8_t* mask) {
    active_.resize(g_.streams * g_.out_size() + 1);
    total_ = 0;
    for (int64_t n = 0; n < g_.streams; ++n) {
      const int64_t first = n * g_.out_size();
      total_ +=
          compact(mask + first, g_.out_size(), first, active_.data() + total_);
    }
  }

  void accumulate(
      const float* input,
      const float* weight,
      const float* bias,
      float* output) const {
    const std::vector<float> zeros(g_.in_channels);
    const Accumulation job{
        &g_, input, changed_.data(), zeros.data(), weight, bias, output,
        active_.data()};
    const bool depthwise = is_depthwise(g_);
    const int64_t out = g_.out_channels / g_.groups;
    const int64_t blocks =
        depthwise ? 1 : g_.groups * ((out + kBlock - 1) / kBlock);
    const int64_t macs = std::max<int64_t>(
        g_.positions() * g_.in_channels / g_.groups * g_.out_channels, 1);
    const int64_t threads =
        total_ * macs < 2 * kGrainMacs ? 1 : at::get_num_threads();
    const int64_t share = share_of(total_, threads);
    const int64_t shares = (total_ + share - 1) / share;
    // Few outputs with many channels: the channels are shared out, too.
    const int64_t parts = shares < 2 * threads && threads > 1 ? blocks : 1;
    const int64_t tasks = shares * parts, width = blocks / parts;
    at::parallel_for(
        0, tasks, threads > 1 ? 1 : tasks, [&](int64_t begin, int64_t end) {
          for (int64_t task = begin; task < end; ++task) {
            const int64_t from = task % shares * share;
            const int64_t to = std::min(from + share, total_);
            const int64_t block = task / shares * width;
            if (depthwise) {
              kernels_.depthwise(job, from, to);
            } else {
              kernels_.accumulate(job, from, to, block, block + width);
            }
          }
        });
  }

  void emit(const float* from, float* to, Activation activation) const {
    const int64_t size = g_.streams * g_.out_size() * g_.out_channels;
    at::parallel_for(0, size, kGrainFloats, [&](int64_t begin, int64_t end) {
      kernels_.emit(from + begin, to + begin, end - begin, activation);
    });
  }

  int64_t total() const {
    return total_;
  }

 private:
  void grow(uint8_t* mask) const {
    for (int64_t n = 0; n < g_.streams && block_size_ > 1; ++n) {
      grow_blocks(
          mask + n * g_.out_size(), g_.out_height, g_.out_width, block_size_);
    }
  }

  int64_t input_grain() const {
    const int64_t row = std::max<int64_t>(g_.width * g_.in_channels, 1);
    return std::max<int64_t>(kGrainFloats / row, 1);
  }

  static int64_t share_of(int64_t total, int64_t threads) {
    const int64_t fair = (total + threads - 1) / threads;
    return std::min(kShare, std::max<int64_t>((fair + 11) / 12 * 12, 12));
  }

  const Geometry& g_;
  const Rule& rule_;
  const int64_t block_size_;
  const Kernels& kernels_;
  std::vector<uint8_t> changed_;
  std::vector<float> magnitude_;
  std::vector<int32_t> counts_;
  std::vector<int32_t> active_;
  int64_t total_ = 0;
};

} // namespace

std::tuple<at::Tensor, at::Tensor> skip_frame(
    const at::Tensor& x,
    at::Tensor& input,
    at::Tensor& output,
    const at::Tensor& scale,
    const at::Tensor& weight,
    const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& region,
    at::IntArrayRef kernel_size,
    at::IntArrayRef stride,
    at::IntArrayRef padding,
    at::IntArrayRef dilation,
    int64_t groups,
    double threshold,
    int64_t block_size,
    int64_t order,
    bool accumulated,
    std::string_view activation) {
  const Geometry geometry = check_arguments(
      x, input, output, scale, weight, bias, region, kernel_size, stride,
      padding, dilation, groups, block_size, order);
  const Activation kind = parse_activation(activation);
  const at::Tensor seen = x.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor factor = scale.contiguous();
  const Rule rule{
      static_cast<float>(threshold),
      static_cast<int>(order),
      factor.const_data_ptr<float>(),
      factor.numel() > 1,
      region ? reinterpret_cast<const uint8_t*>(region->const_data_ptr<bool>())
             : nullptr,
      region && region->size(0) > 1};
  at::Tensor result = at::empty_like(output);
  at::Tensor mask = at::empty(
      {geometry.streams, 1, geometry.out_height, geometry.out_width},
      output.options().dtype(at::kBool));
  if (output.numel() == 0) {
    return {result, mask};
  }
  auto* fired = reinterpret_cast<uint8_t*>(mask.mutable_data_ptr<bool>());
  float* reference = input.mutable_data_ptr<float>();
  float* sums = output.mutable_data_ptr<float>();
  const float* frame = seen.const_data_ptr<float>();

  Frame run(geometry, rule, block_size);
  if (!run.compare(frame, reference, !accumulated) && run.rests()) {
    std::memset(fired, 0, mask.numel());
  } else {
    run.decide(fired);
    if (accumulated) {
      run.send(fired, frame, reference);
    }
    run.list(fired);
    const float* start = accumulated && bias
        ? bias->const_data_ptr<float>()
        : nullptr;
    if (run.total() > 0) {
      const at::Tensor zero =
          accumulated && !bias ? at::zeros({output.size(1)}, output.options())
                               : at::Tensor();
      run.accumulate(
          reference,
          weight.const_data_ptr<float>(),
          zero.defined() ? zero.const_data_ptr<float>() : start,
          sums);
    }
    if (!accumulated) {
      run.renew(frame, reference);
    }
  }
  run.emit(sums, result.mutable_data_ptr<float>(), kind);
  return {result, mask};
}

} // namespace mmskip
