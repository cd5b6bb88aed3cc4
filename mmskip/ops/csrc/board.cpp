#include "board.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>

#include "arguments.h"
#include "frame.h"

namespace mmskip {
namespace {

// Floats below which a second thread costs more than it saves.
constexpr int64_t kGrain = 1 << 15;

const uint8_t* bytes(const at::Tensor& map) {
  return reinterpret_cast<const uint8_t*>(map.const_data_ptr<bool>());
}

uint8_t* bytes(at::Tensor& map) {
  return reinterpret_cast<uint8_t*>(map.mutable_data_ptr<bool>());
}

int64_t factor_of(const at::Tensor& image, const at::Tensor& result) {
  const int64_t height = image.size(2), width = image.size(3);
  const int64_t factor =
      height > 0 ? std::max<int64_t>(result.size(2) / height, 1) : 1;
  TORCH_CHECK_VALUE(
      image.size(0) == result.size(0) && image.size(1) == result.size(1) &&
          height * factor == result.size(2) &&
          width * factor == result.size(3),
      "expected images as large as the result, or smaller by a whole factor, "
      "got ", image.sizes(), " for ", result.sizes());
  return factor;
}

} // namespace

Board::Board(int64_t values) : values_(values) {}

Value& Board::value(int64_t index) {
  return values_.at(index);
}

const Value& Board::value(int64_t index) const {
  return values_.at(index);
}

void Board::put(int64_t index, const at::Tensor& tensor) {
  value(index).tensor = tensor;
}

void Board::mark(
    int64_t index, int64_t change, const std::optional<at::Tensor>& map) {
  Value& to = value(index);
  to.change = static_cast<Change>(change);
  if (to.change == Change::kMapped) {
    const at::Tensor& of = to.tensor;
    TORCH_CHECK_VALUE(map.has_value(), "expected a map of changes, got none");
    check_map(*map, of.size(0), of.size(2), of.size(3), "map");
    to.map = *map;
  }
}

int64_t Board::change(int64_t index) const {
  return static_cast<int64_t>(value(index).change);
}

at::Tensor Board::map(int64_t index) const {
  return value(index).map;
}

void Board::add_conv(
    int64_t source,
    int64_t target,
    at::Tensor mask,
    at::Tensor input,
    at::Tensor output,
    at::Tensor scale,
    at::Tensor weight,
    std::optional<at::Tensor> bias,
    std::optional<at::Tensor> region,
    std::vector<int64_t> kernel_size,
    std::vector<int64_t> stride,
    std::vector<int64_t> padding,
    std::vector<int64_t> dilation,
    int64_t groups,
    at::Tensor threshold,
    int64_t block_size,
    int64_t order,
    bool accumulated,
    std::optional<at::Tensor> gate_weight,
    std::optional<at::Tensor> gate_bias,
    std::string sees) {
  ConvStep step{
      Layer({input, output, scale, weight, bias, region, kernel_size, stride,
             padding, dilation, groups, threshold, block_size, order,
             accumulated, gate_weight, gate_bias, sees}),
      source,
      target};
  const Geometry& g = step.layer.geometry();
  check_map(mask, g.streams, g.out_height, g.out_width, "mask");
  step.changed.resize(step.layer.num_changed());
  step.scores.resize(step.layer.num_scores());
  step.mask = mask;
  value(source);
  value(target).tensor = output;
  steps_.emplace_back(std::move(step));
}

void Board::add_sum(
    std::vector<int64_t> sources,
    int64_t target,
    at::Tensor result,
    bool relu) {
  const int64_t count = sources.size();
  TORCH_CHECK_VALUE(
      count >= 1 && count <= kMaxTerms, "expected 1 to ", kMaxTerms,
      " images to add, got ", count);
  check_memory(result, "result");
  SumStep step{std::move(sources), {}, target, result, {}, relu};
  for (const int64_t source : step.sources) {
    step.factors.push_back(factor_of(value(source).tensor, result));
  }
  step.mask = at::zeros(
      {result.size(0), 1, result.size(2), result.size(3)},
      result.options().dtype(at::kBool));
  value(target).tensor = result;
  steps_.emplace_back(std::move(step));
}

void Board::watch(const at::Tensor& tensor) {
  watched_.push_back({tensor, tensor.const_data_ptr(), tensor._version()});
}

bool Board::holds() const {
  return std::all_of(watched_.begin(), watched_.end(), [](const Watched& w) {
    return w.tensor.const_data_ptr() == w.data &&
        w.tensor._version() == w.version;
  });
}

void Board::run(int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    std::visit([this](auto& step) { run_step(step); }, steps_.at(i));
  }
}

void Board::run_step(ConvStep& step) {
  const Value& from = value(step.source);
  if (from.change == Change::kNowhere && !step.restless) {
    if (step.fired > 0) {
      step.mask.zero_();
      step.fired = 0;
    }
  } else {
    const Geometry& g = step.layer.geometry();
    std::vector<uint8_t> none;
    const uint8_t* candidates = nullptr;
    if (!step.known || from.change == Change::kAnywhere) {
      std::fill(step.changed.begin(), step.changed.end(), 0);
      std::fill(step.scores.begin(), step.scores.end(), 0.0f);
    } else if (from.change == Change::kMapped) {
      candidates = bytes(from.map);
    } else {
      none.resize(g.streams * g.in_size());
      candidates = none.data();
    }
    std::tie(step.fired, step.restless) = step.layer.run(
        from.tensor,
        {candidates, step.changed.data(), step.scores.data()},
        bytes(step.mask));
    step.known = true;
  }
  Value& to = value(step.target);
  to.change = step.fired > 0 ? Change::kMapped : Change::kNowhere;
  to.map = step.mask;
}

void Board::run_step(SumStep& step) {
  at::Tensor tensors[kMaxTerms];
  const float* images[kMaxTerms];
  const uint8_t* maps[kMaxTerms];
  int64_t map_factors[kMaxTerms];
  int64_t count = 0, num_maps = 0;
  bool everywhere = !step.known;
  for (const int64_t source : step.sources) {
    const Value& from = value(source);
    tensors[count] = from.tensor.contiguous(at::MemoryFormat::ChannelsLast);
    images[count] = tensors[count].const_data_ptr<float>();
    everywhere |= from.change == Change::kAnywhere;
    if (from.change == Change::kMapped) {
      maps[num_maps] = bytes(from.map);
      map_factors[num_maps++] = step.factors[count];
    }
    ++count;
  }
  Value& to = value(step.target);
  to.map = step.mask;
  if (num_maps == 0 && !everywhere) {
    to.change = Change::kNowhere;
    return;
  }
  const int64_t streams = step.result.size(0), channels = step.result.size(1);
  const int64_t height = step.result.size(2), width = step.result.size(3);
  std::vector<int32_t> counts(streams * height);
  const Sum job{
      streams,
      height,
      width,
      channels,
      count,
      images,
      step.factors.data(),
      num_maps,
      maps,
      map_factors,
      everywhere,
      step.relu,
      step.result.mutable_data_ptr<float>(),
      bytes(step.mask),
      counts.data()};
  const int64_t row = std::max<int64_t>(width * channels * count, 1);
  const int64_t grain = std::max<int64_t>(kGrain / row, 1);
  at::parallel_for(
      0, streams * height, grain, [&](int64_t begin, int64_t end) {
        kernels().add(job, begin, end);
      });
  step.known = true;
  const bool any = std::any_of(
      counts.begin(), counts.end(), [](int32_t n) { return n > 0; });
  to.change = any ? Change::kMapped : Change::kNowhere;
}

} // namespace mmskip
