#include "frame.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "arguments.h"
#include "runs.h"
#include "share_rows.h"

namespace mmskip {
namespace {

// Work below which a second thread costs more than it saves.
constexpr int64_t kGrainFloats = 1 << 15;
constexpr int64_t kGrainMacs = 1 << 18;
// Outputs handed out at a time: a multiple of every register tile.
constexpr int64_t kShare = 96;

// What frames of a thread work on one after the other: not taken from the
// system and filled with zeros for each.
struct Scratch {
  std::vector<int32_t> counts, active;
  std::vector<float> sums;
  std::vector<uint8_t> transmitted, phase;
};

Scratch& scratch() {
  static thread_local Scratch of_thread;
  return of_thread;
}

template <typename T>
T* room_for(int64_t count, std::vector<T>& in) {
  if (static_cast<int64_t>(in.size()) < count) {
    in.resize(count);
  }
  return in.data();
}

int64_t share_of(int64_t total, int64_t threads) {
  const int64_t fair = std::max<int64_t>((total + threads - 1) / threads, 1);
  const int64_t turns = (fair + kShare - 1) / kShare;
  return ((fair + turns - 1) / turns + 11) / 12 * 12;
}

} // namespace

Frame::Frame(
    const Geometry& geometry,
    const Rule& rule,
    const LearnedGate& gate,
    const Residuals& residuals,
    int64_t block_size)
    : g_(geometry),
      rule_(rule),
      gate_(gate),
      block_size_(block_size),
      kernels_(kernels()),
      residuals_(residuals),
      counts_(room_for(g_.streams * g_.height, scratch().counts)) {}

template <typename T>
void Frame::compare(
    const ValueOf<T>* x, const Reference<T>& reference, bool subtract) {
  const Comparison<T> job{
      &g_,
      x,
      reference.image,
      reference.is_padded,
      reference.grid,
      residuals_.candidates,
      subtract,
      rule_.order,
      gate_.kernel,
      gate_.input,
      residuals_.scores,
      residuals_.changed,
      counts_};
  const int64_t rows = g_.streams * g_.height;
  share_rows(rows, input_grain(), [&](int64_t begin, int64_t end) {
    image_kernels<T>().compare(job, begin, end);
  });
}

bool Frame::reads_frames() const {
  return gate_.kernel != nullptr && gate_.input == GateInput::kFrame;
}

bool Frame::fires_at_rest() const {
  for (int64_t n = 0; n < (rule_.scale_by_stream ? g_.streams : 1); ++n) {
    if (rule_.fires_at_rest(n)) {
      return true;
    }
  }
  return reads_frames();
}

bool Frame::is_idle() const {
  return !fires_at_rest() &&
      std::all_of(counts_, counts_ + g_.streams * g_.height, [](int32_t n) {
           return n == 0;
         });
}

bool Frame::stays_active() const {
  // Where nothing was computed, the next frame decides from the same
  // residuals. Where something was, what is pending around it may still fire:
  // outputs are computed anew even if no input that they read is.
  const size_t size = g_.streams * g_.padded_size();
  return fires_at_rest() ||
      (total_ > 0 && std::memchr(residuals_.changed, 1, size) != nullptr);
}

bool Frame::may_fire(int64_t row) const {
  const int64_t stream = row / g_.out_height, h = row % g_.out_height;
  if (reads_frames() ||
      rule_.fires_at_rest(rule_.scale_by_stream ? stream : 0)) {
    return rule_.forced == nullptr ||
        std::memchr(rule_.forced + h * g_.out_width, 1, g_.out_width) !=
        nullptr;
  }
  for (int64_t k = 0; k < g_.kernel_height; ++k) {
    const int64_t from = g_.row_read(h, k) - g_.top;
    if (0 <= from && from < g_.height &&
        counts_[stream * g_.height + from] > 0) {
      return true;
    }
  }
  return false;
}

void Frame::decide(uint8_t* mask) const {
  const int64_t rows = g_.streams * g_.out_height;
  const int64_t work = std::max<int64_t>(g_.out_width * g_.positions(), 1);
  const int64_t grain = std::max<int64_t>(kGrainFloats / work, 1);
  const int64_t step = gate_.kernel ? g_.streams * g_.padded_size() : 0;
  // An output that reads one input has its score.
  float* const sums = is_pointwise()
      ? residuals_.scores
      : room_for(rows * g_.out_width, scratch().sums);
  share_rows(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row;
      while (row < end && may_fire(row)) {
        ++row;
      }
      if (first < row && !is_pointwise()) {
        kernels_.support_sum(g_, residuals_.scores, step, sums, first, row);
      }
      if (first < row) {
        kernels_.threshold(g_, rule_, sums, mask, first, row);
      }
      if (row < end) {
        std::memset(mask + row * g_.out_width, 0, g_.out_width);
      }
    }
  });
  grow(mask);
}

bool Frame::is_pointwise() const {
  return g_.positions() == 1 && g_.in_size() == g_.out_size() &&
      g_.padded_size() == g_.in_size();
}

template <typename T>
void Frame::transmit(
    uint8_t* mask, const ValueOf<T>* x, const Reference<T>& reference) {
  if (is_pointwise()) {  // what is wanted is what is transmitted
    renew(x, reference, mask);
    return;
  }
  uint8_t* const transmitted =
      room_for(g_.streams * g_.padded_size(), scratch().transmitted);
  const int64_t work =
      g_.padded_width() * (g_.kernel_height + g_.kernel_width);
  const int64_t grain = std::max<int64_t>(kGrainFloats / work, 1);
  const int64_t in_rows = g_.streams * g_.padded_height();
  share_rows(in_rows, grain, [&](int64_t begin, int64_t end) {
    transmit_inputs(g_, mask, transmitted, begin, end);
  });
  const int64_t out_rows = g_.streams * g_.out_height;
  share_rows(out_rows, grain, [&](int64_t begin, int64_t end) {
    touched_outputs(g_, transmitted, mask, begin, end);
  });
  grow(mask);
  renew(x, reference, transmitted);
}

template <typename T>
void Frame::renew(
    const ValueOf<T>* x,
    const Reference<T>& reference,
    const uint8_t* transmitted) {
  const int64_t rows = g_.streams * g_.height, C = g_.in_channels;
  const int64_t step = g_.streams * g_.padded_size();
  const int64_t maps =
      reads_frames() ? 0 : score_maps(g_, gate_.kernel != nullptr);
  const int64_t changed =
      std::accumulate(counts_, counts_ + rows, INT64_C(0));
  const int64_t grain =
      changed * C < 2 * kGrainFloats ? rows : input_grain();
  share_rows(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      if (counts_[row] == 0) {
        continue;
      }
      const int64_t padded = g_.padded_row(row);
      uint8_t* const own = residuals_.changed + padded;
      // What is renewed side by side is copied at once.
      const auto copy = [&](int64_t first, int64_t last) {
        std::memset(own + first, 0, last - first);
        for (int64_t k = 0; k < maps; ++k) {
          float* const scores = residuals_.scores + k * step + padded;
          std::fill(scores + first, scores + last, 0.0f);
        }
        const int64_t at = row * g_.width + first;
        put_values(
            x + at * C, reference.grid, (last - first) * C,
            reference.image +
                (reference.is_padded ? padded + first : at) * C);
      };
      for_runs(
          own, transmitted == nullptr ? nullptr : transmitted + padded,
          g_.width, copy);
    }
  });
}

void Frame::list(const uint8_t* mask) {
  if (g_.row_step > 1 || g_.column_step > 1) {
    uint8_t* const own =
        room_for(g_.streams * g_.out_size(), scratch().phase);
    take_phase(g_, mask, own);
    mask = own;
  }
  active_ = room_for(g_.streams * g_.out_size() + 1, scratch().active);
  total_ = 0;
  listed_.resize(g_.streams);
  for (int64_t n = 0; n < g_.streams; ++n) {
    const int64_t first = n * g_.out_size();
    listed_[n] =
        compact(mask + first, g_.out_size(), first, active_ + total_);
    total_ += listed_[n];
  }
}

void Frame::accumulate(
    const float* input,
    const float* weight,
    const float* bias,
    const Results& results) const {
  const std::vector<float> zeros(g_.kernel_width * g_.in_channels);
  std::vector<uint8_t> all;
  if (bias != nullptr) {
    all.resize(g_.streams * g_.padded_size());
    for (int64_t row = 0; row < g_.streams * g_.height; ++row) {
      std::memset(all.data() + g_.padded_row(row), 1, g_.width);
    }
  }
  const Accumulation job{
      &g_,
      input,
      bias != nullptr ? all.data() : residuals_.changed,
      zeros.data(),
      weight,
      bias,
      results.output,
      results.activated,
      results.activation,
      active_};
  const bool depthwise = is_depthwise(g_);
  share_outputs([&](int64_t begin, int64_t end, int64_t first, int64_t last) {
    if (depthwise) {
      kernels_.depthwise(job, begin, end);
    } else {
      kernels_.accumulate(job, begin, end, first, last);
    }
  });
}

template <typename T>
void Frame::convolve(Convolution<T> job) const {
  job.geometry = &g_;
  job.active = active_;
  share_outputs([&](int64_t begin, int64_t end, int64_t first, int64_t last) {
    image_kernels<T>().convolve(job, begin, end, first, last);
  });
}

template <typename Run>
void Frame::share_outputs(const Run& run) const {
  const int64_t out = g_.out_channels / g_.groups;
  const int64_t blocks =
      is_depthwise(g_) ? 1 : g_.groups * ((out + kBlock - 1) / kBlock);
  const int64_t macs = std::max<int64_t>(
      g_.positions() * g_.in_channels / g_.groups * g_.out_channels, 1);
  if (total_ * macs < 2 * kGrainMacs) {
    run(0, total_, 0, blocks);
    return;
  }
  const int64_t threads = at::get_num_threads();
  const int64_t share = share_of(total_, threads);
  const int64_t shares = (total_ + share - 1) / share;
  // Few outputs with many channels: the channels are shared out, too.
  const int64_t parts = shares < 2 * threads && threads > 1 ? blocks : 1;
  const int64_t width = blocks / parts;
  Crew::share(shares * parts, [&](int64_t task) {
    const int64_t from = task % shares * share;
    const int64_t block = task / shares * width;
    run(from, std::min(from + share, total_), block, block + width);
  });
}

void Frame::grow(uint8_t* mask) const {
  for (int64_t n = 0; n < g_.streams && block_size_ > 1; ++n) {
    grow_blocks(
        mask + n * g_.out_size(), g_.out_height, g_.out_width, block_size_);
  }
}

int64_t Frame::input_grain() const {
  const int64_t row = std::max<int64_t>(g_.width * g_.in_channels, 1);
  return std::max<int64_t>(kGrainFloats / row, 1);
}

template void Frame::compare(const float*, const Reference<float>&, bool);
template void Frame::compare(
    const BFloat16*, const Reference<BFloat16>&, bool);
template void Frame::compare(
    const BFloat16*, const Reference<uint8_t>&, bool);
template void Frame::transmit(
    uint8_t*, const float*, const Reference<float>&);
template void Frame::transmit(
    uint8_t*, const BFloat16*, const Reference<BFloat16>&);
template void Frame::transmit(
    uint8_t*, const BFloat16*, const Reference<uint8_t>&);
template void Frame::renew(
    const float*, const Reference<float>&, const uint8_t*);
template void Frame::renew(
    const BFloat16*, const Reference<BFloat16>&, const uint8_t*);
template void Frame::renew(
    const BFloat16*, const Reference<uint8_t>&, const uint8_t*);
template void Frame::convolve(Convolution<float>) const;
template void Frame::convolve(Convolution<BFloat16>) const;
template void Frame::convolve(Convolution<uint8_t>) const;

} // namespace mmskip
