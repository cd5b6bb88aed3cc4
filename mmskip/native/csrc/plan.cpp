#include "plan.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <tuple>
#include <type_traits>
#include <utility>

#include "arguments.h"
#include "crew.h"
#include "fingerprint.h"
#include "frame.h"

namespace mmskip {
namespace {

// Of a watched tensor that are compared in each frame.
constexpr int64_t kWords = 16;

// Tensors of inference mode have no version counter.
int64_t version_of(const at::Tensor& tensor) {
  return tensor.is_inference() ? 0 : tensor._version();
}

int64_t look_at(const at::Tensor& tensor) {
  const bool whole = tensor.dim() < 2 || tensor.is_inference();
  return fingerprint(tensor, whole ? 0 : kWords);
}

at::Tensor empty_mask(const at::Tensor& image) {
  return at::zeros(
      {image.size(0), 1, image.size(2), image.size(3)},
      image.options().dtype(at::kBool));
}

} // namespace

ChangeMemory::ChangeMemory(
    const Geometry& geometry, bool learned, at::Tensor mask)
    : changed(geometry.streams * geometry.padded_size()),
      scores(changed.size() * score_maps(geometry, learned)),
      mask(std::move(mask)) {
  check_map(
      this->mask, geometry.streams, geometry.out_height, geometry.out_width,
      "mask");
}

void ChangeMemory::begin() {
  mask.fill_(true);
  fired = mask.numel();
  active = true;
  known = false;
}

Plan::Plan(int64_t values) : values_(values) {}

Value& Plan::value(int64_t index) {
  return const_cast<Value&>(std::as_const(*this).value(index));
}

const Value& Plan::value(int64_t index) const {
  const int64_t count = values_.size();
  TORCH_CHECK_INDEX(
      0 <= index && index < count, "expected the number of one of ", count,
      " values, got ", index);
  return values_[index];
}

void Plan::put(int64_t index, const at::Tensor& tensor) {
  value(index).tensor = tensor;
}

void Plan::mark(
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

int64_t Plan::change(int64_t index) const {
  return static_cast<int64_t>(value(index).change);
}

at::Tensor Plan::map(int64_t index) const {
  return value(index).map;
}

void Plan::add_conv(
    int64_t source,
    int64_t target,
    c10::intrusive_ptr<CallSite> site,
    at::Tensor mask,
    std::optional<at::Tensor> result) {
  const bool activates = !site->layer().activation.is_none();
  TORCH_CHECK_VALUE(
      result.has_value() == activates,
      "expected a result with an activation and none without");
  const at::Tensor& output = site->output();
  if (result) {
    check_memory(*result, "result");
    TORCH_CHECK_VALUE(
        result->sizes() == output.sizes(), "expected a result of shape ",
        output.sizes(), ", got ", result->sizes());
  }
  ChangeMemory memory(
      site->geometry(), site->layer().gate->kernel.has_value(),
      std::move(mask));
  value(source);
  value(target).tensor = result ? *result : output;
  steps_.emplace_back(ConvStep{
      std::move(site), source, target, std::move(result), std::move(memory)});
}

void Plan::add_planned_conv(
    int64_t source,
    int64_t target,
    c10::intrusive_ptr<Layer> layer,
    std::vector<at::Tensor> memory,
    at::Tensor mask,
    at::Tensor result,
    std::optional<std::string> activation,
    std::optional<double> step,
    int64_t zero) {
  TORCH_CHECK_VALUE(
      !step || (*step > 0 && 0 <= zero && zero <= 255),
      "expected a step above 0 and a zero in [0, 255], got ",
      step.value_or(0), " and ", zero);
  std::optional<Grid> grid;
  if (step) {
    grid = Grid{
        static_cast<float>(*step), static_cast<float>(zero),
        1 / static_cast<float>(*step)};
  }
  check_image(result, "result");
  const bool learned = layer->gate->kernel.has_value();
  std::unique_ptr<PlannedSite> site =
      plan_site(
          std::move(layer), memory, result.scalar_type(),
          parse_activation(activation), grid);
  const Geometry& g = site->geometry();
  const std::vector<int64_t> expected{
      g.streams, g.out_channels, g.out_height, g.out_width};
  TORCH_CHECK_VALUE(
      result.sizes() == at::IntArrayRef(expected),
      "expected a result of shape ", at::IntArrayRef(expected), ", got ",
      result.sizes());
  value(source);
  value(target).tensor = result;
  ChangeMemory changes(g, learned, std::move(mask));
  steps_.emplace_back(PlannedStep{
      std::move(site), source, target, std::move(result),
      std::move(changes)});
}

const PlannedSite& Plan::site_of(int64_t target) const {
  for (const auto& step : steps_) {
    const auto* conv = std::get_if<PlannedStep>(&step);
    if (conv != nullptr && conv->target == target) {
      return *conv->site;
    }
  }
  TORCH_CHECK_INDEX(
      false, "expected the number of the output of a planned convolution, got ",
      target);
}

std::tuple<at::Tensor, at::Tensor> Plan::remembered(int64_t target) const {
  return site_of(target).remembered();
}

int64_t Plan::num_bytes(int64_t target) const {
  return site_of(target).num_bytes();
}

std::vector<int64_t> Plan::computed() const {
  std::vector<int64_t> numbers;
  for (const auto& step : steps_) {
    if (const auto* conv = std::get_if<ConvStep>(&step)) {
      numbers.push_back(conv->memory.fired);
    } else if (const auto* planned = std::get_if<PlannedStep>(&step)) {
      numbers.push_back(planned->memory.fired);
    }
  }
  return numbers;
}

void Plan::add_follow(int64_t source, int64_t target, at::Tensor copy) {
  check_image(copy, "copy");
  value(source);
  value(target).tensor = copy;
  steps_.emplace_back(FollowStep{source, target, copy, empty_mask(copy)});
}

void Plan::add_sum(
    std::vector<int64_t> sources,
    int64_t target,
    at::Tensor result,
    std::optional<at::Tensor> scale,
    std::optional<at::Tensor> shift,
    std::optional<std::string> activation) {
  const int64_t count = sources.size();
  TORCH_CHECK_VALUE(
      count >= 1 && count <= kMaxTerms, "expected 1 to ", kMaxTerms,
      " images to add, got ", count);
  check_image(result, "result");
  SumStep step{std::move(sources), {}, target, result, empty_mask(result)};
  TORCH_CHECK_VALUE(
      scale.has_value() == shift.has_value(),
      "expected a scale and a shift or neither, got one of them");
  if (scale) {
    check_channels(*scale, result.size(1), "scale");
    check_channels(*shift, result.size(1), "shift");
  }
  step.scale = scale;
  step.shift = shift;
  step.activation = parse_activation(activation);
  for (const int64_t source : step.sources) {
    step.factors.push_back(check_factor(value(source).tensor, result));
  }
  value(target).tensor = result;
  steps_.emplace_back(std::move(step));
}

void Plan::add_scale(
    int64_t source, int64_t factor, int64_t target, at::Tensor result) {
  check_image(result, "result");
  value(source);
  value(factor);
  value(target).tensor = result;
  steps_.emplace_back(
      ScaleStep{source, factor, target, result, empty_mask(result)});
}

void Plan::add_crop(
    int64_t source,
    int64_t target,
    std::vector<int64_t> rows,
    std::vector<int64_t> columns) {
  for (const std::vector<int64_t>* some : {&rows, &columns}) {
    TORCH_CHECK_VALUE(
        some->size() == 3 && (*some)[0] >= 0 && (*some)[0] < (*some)[1] &&
            (*some)[2] > 0,
        "expected begin, end and step of a crop, got ", *some);
  }
  CropStep step{source, target, std::move(rows), std::move(columns)};
  step.mask = empty_mask(crop(value(source).tensor, step));
  value(target).tensor = crop(value(source).tensor, step);
  steps_.emplace_back(std::move(step));
}

void Plan::add_pool(
    int64_t source,
    int64_t target,
    at::Tensor result,
    std::vector<int64_t> kernel,
    std::vector<int64_t> stride,
    std::vector<int64_t> padding) {
  check_image(result, "result");
  check_list(kernel, 2, 1, "kernel");
  check_list(stride, 2, 1, "stride");
  check_list(padding, 2, 0, "padding");
  PoolStep step{
      source, target, value(source).tensor.sizes().vec(), std::move(kernel),
      std::move(stride), std::move(padding), result, empty_mask(result)};
  check_pool(step);
  value(target).tensor = result;
  steps_.emplace_back(std::move(step));
}

void Plan::add_mean(int64_t source, int64_t target, at::Tensor result) {
  check_image(result, "result");
  const at::Tensor& image = value(source).tensor;
  TORCH_CHECK_VALUE(
      image.dim() == 4 && image.numel() > 0 && result.size(0) == image.size(0) &&
          result.size(1) == image.size(1) && result.size(2) == 1 &&
          result.size(3) == 1,
      "expected a result (N, C, 1, 1) for an image (N, C, H, W), got ",
      result.sizes(), " for ", image.sizes());
  MeanStep step{source, target, image.sizes().vec(), result};
  step.sums.resize(image.size(0) * image.size(1) * image.size(2));
  value(target).tensor = result;
  steps_.emplace_back(std::move(step));
}

void Plan::add_factor(
    int64_t source, int64_t target, at::Tensor result, bool hard) {
  check_image(result, "result");
  const at::Tensor& image = value(source).tensor;
  TORCH_CHECK_VALUE(
      image.sizes() == result.sizes(), "expected a result of shape ",
      image.sizes(), ", got ", result.sizes());
  value(target).tensor = result;
  steps_.emplace_back(FactorStep{source, target, hard, result});
}

void Plan::add_join(
    std::vector<int64_t> sources, int64_t target, at::Tensor result) {
  check_image(result, "result");
  JoinStep step{std::move(sources), target, result, empty_mask(result)};
  check_join(step);
  value(target).tensor = result;
  steps_.emplace_back(std::move(step));
}

void Plan::watch(const at::Tensor& tensor) {
  watched_.push_back(
      {tensor, tensor.const_data_ptr(), version_of(tensor),
       look_at(tensor)});
}

bool Plan::holds() const {
  return std::all_of(watched_.begin(), watched_.end(), [](const Watched& w) {
    return w.tensor.const_data_ptr() == w.data &&
        version_of(w.tensor) == w.version &&
        look_at(w.tensor) == w.fingerprint;
  });
}

void Plan::check_steps(int64_t begin, int64_t end) const {
  const int64_t count = steps_.size();
  TORCH_CHECK_INDEX(
      0 <= begin && begin <= end && end <= count, "expected some of ", count,
      " steps, got [", begin, ", ", end, ")");
}

StepUse Plan::use_of(int64_t number) const {
  return std::visit(
      [this](const auto& step) -> StepUse {
        using Step = std::decay_t<decltype(step)>;
        const at::Tensor& result = value(step.target).tensor;
        const int64_t size = result.defined() ? result.numel() : 1;
        if constexpr (
            std::is_same_v<Step, SumStep> || std::is_same_v<Step, JoinStep>) {
          return {step.sources, step.target, size};
        } else if constexpr (std::is_same_v<Step, ScaleStep>) {
          return {{step.source, step.factor}, step.target, size};
        } else if constexpr (
            std::is_same_v<Step, ConvStep> ||
            std::is_same_v<Step, PlannedStep>) {
          const Geometry& g = step.site->geometry();
          return {
              {step.source}, step.target,
              size * g.positions() * g.in_channels / g.groups};
        } else {
          return {{step.source}, step.target, size};
        }
      },
      steps_[number]);
}

const std::vector<Section>& Plan::sections(int64_t begin, int64_t end) {
  auto it = sections_.find({begin, end});
  if (it == sections_.end()) {
    std::vector<StepUse> uses;
    for (int64_t i = begin; i < end; ++i) {
      uses.push_back(use_of(i));
    }
    it = sections_
             .emplace(
                 std::pair{begin, end},
                 part_into_sections(begin, uses, at::get_num_threads()))
             .first;
  }
  return it->second;
}

void Plan::run_section(const Section& section) {
  const auto take = [this](const std::vector<int64_t>& chain) {
    for (const int64_t i : chain) {
      std::visit([this](auto& step) { run_step(step); }, steps_[i]);
    }
  };
  if (section.chains.size() == 1) {
    take(section.chains[0]);
    return;
  }
  // Helpers are in the mode of the leader, and leave errors to it.
  const at::ThreadLocalState state;
  std::vector<std::exception_ptr> errors(section.chains.size());
  Crew::share_long(section.chains.size(), [&](int64_t i) {
    try {
      const at::ThreadLocalStateGuard guard(state);
      take(section.chains[i]);
    } catch (...) {
      errors[i] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : errors) {
    if (error) {
      std::rethrow_exception(error);
    }
  }
}

void Plan::run(int64_t begin, int64_t end) {
  check_steps(begin, end);
  const std::vector<Section>& parts = sections(begin, end);
  Crew::run([&] {
    for (const Section& section : parts) {
      run_section(section);
    }
  });
}

void Plan::begin(int64_t begin, int64_t end) {
  check_steps(begin, end);
  Crew::run([&] {
    for (int64_t i = begin; i < end; ++i) {
      std::visit([this](auto& step) { begin_step(step); }, steps_[i]);
    }
  });
}

} // namespace mmskip
