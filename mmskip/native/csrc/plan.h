// The values of a module, where they have changed since the frame before, and
// the steps that bring them up to date.
#pragma once

#include <ATen/ATen.h>
#include <torch/custom_class.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "call_site.h"
#include "chains.h"
#include "planned_site.h"

namespace mmskip {

// Where a value differs from that of the frame before.
enum class Change : int64_t { kNowhere, kMapped, kAnywhere };

struct Value {
  at::Tensor tensor;
  Change change = Change::kAnywhere;
  // Where kMapped: bool (N, 1, H, W), contiguous.
  at::Tensor map;
};

// What a Skip-Convolution knows of the changes of its last frame.
struct ChangeMemory {
  ChangeMemory(const Geometry& geometry, bool learned, at::Tensor mask);

  // Notes a reference frame.
  void begin();

  // The maps of a frame that the next one reads, see Comparison.
  std::vector<uint8_t> changed;
  std::vector<float> scores;
  // The outputs that were computed.
  at::Tensor mask;
  // Of the last frame: how many outputs, and whether the next one may differ
  // even if nothing changes.
  int64_t fired = 0;
  bool active = true;
  // True if changed and scores are those of the frame before.
  bool known = false;
};

struct ConvStep {
  c10::intrusive_ptr<CallSite> site;
  int64_t source, target;
  // The output after an activation.
  std::optional<at::Tensor> activated;
  ChangeMemory memory;
};

// The same of a layer whose outputs are computed anew.
struct PlannedStep {
  std::unique_ptr<PlannedSite> site;
  int64_t source, target;
  at::Tensor result;
  ChangeMemory memory;
};

struct FollowStep {
  int64_t source, target;
  at::Tensor copy;
  at::Tensor mask;
};

struct SumStep {
  std::vector<int64_t> sources;
  std::vector<int64_t> factors;
  int64_t target;
  at::Tensor result;
  at::Tensor mask;
  std::optional<at::Tensor> scale, shift;
  Activation activation;
  bool known = false;
};

struct ScaleStep {
  int64_t source, factor, target;
  at::Tensor result;
  at::Tensor mask;
  bool known = false;
};

struct CropStep {
  int64_t source, target;
  // Begin, end and step.
  std::vector<int64_t> rows, columns;
  // Where the last frame differed.
  at::Tensor mask;
};

struct PoolStep {
  int64_t source, target;
  // Of the image.
  std::vector<int64_t> sizes;
  std::vector<int64_t> kernel, stride, padding;
  at::Tensor result;
  at::Tensor mask;
  bool known = false;
};

struct MeanStep {
  int64_t source, target;
  // Of the image.
  std::vector<int64_t> sizes;
  at::Tensor result;
  // (N, H, C), of which rows that did not change stay.
  std::vector<float> sums;
  bool known = false;
};

struct FactorStep {
  int64_t source, target;
  bool hard;
  at::Tensor result;
  bool known = false;
};

struct JoinStep {
  std::vector<int64_t> sources;
  int64_t target;
  at::Tensor result;
  at::Tensor mask;
  bool known = false;
};

// Some rows and columns of an image, or of its map.
at::Tensor crop(const at::Tensor& image, const CropStep& step);

class Plan : public torch::CustomClassHolder {
 public:
  explicit Plan(int64_t values);

  void put(int64_t index, const at::Tensor& tensor);

  // How a value changed, a map where it is kMapped.
  void mark(
      int64_t index, int64_t change, const std::optional<at::Tensor>& map);
  int64_t change(int64_t index) const;
  at::Tensor map(int64_t index) const;

  // A Skip-Convolution; the target becomes its output memory, or, with an
  // activation, the result, which holds what that made of the output. The
  // mask says which outputs were computed in the last frame.
  void add_conv(
      int64_t source,
      int64_t target,
      c10::intrusive_ptr<CallSite> site,
      at::Tensor mask,
      std::optional<at::Tensor> result);

  // The same with accumulated memory, which is taken over, see plan_site():
  // the target becomes the result, whose type the memory then has. The
  // activation is applied to it, if the layer has none. With a step and a
  // zero it remembers bytes, see Grid.
  void add_planned_conv(
      int64_t source,
      int64_t target,
      c10::intrusive_ptr<Layer> layer,
      std::vector<at::Tensor> memory,
      at::Tensor mask,
      at::Tensor result,
      std::optional<std::string> activation,
      std::optional<double> step,
      int64_t zero);
  // What the site whose output a value is remembers, see PlannedSite.
  std::tuple<at::Tensor, at::Tensor> remembered(int64_t target) const;
  // Bytes that it takes.
  int64_t num_bytes(int64_t target) const;

  // Numbers of outputs that the Skip-Convolutions computed in the last frame,
  // in the order in which they were added.
  std::vector<int64_t> computed() const;

  // The target becomes the copy, which follows the source, a float image.
  void add_follow(int64_t source, int64_t target, at::Tensor copy);

  // A sum, times a scale plus a shift (C) if they are given, and its
  // activation as of a layer. Sources have the size of the result, or are
  // smaller by a whole factor, the same in both directions, and count as
  // enlarged.
  void add_sum(
      std::vector<int64_t> sources,
      int64_t target,
      at::Tensor result,
      std::optional<at::Tensor> scale,
      std::optional<at::Tensor> shift,
      std::optional<std::string> activation);

  // An image times a factor for each channel of each stream, (N, C, 1, 1).
  void add_scale(
      int64_t source, int64_t factor, int64_t target, at::Tensor result);

  // Some rows and columns of an image: begin, end and step of each. Nothing is
  // copied.
  void add_crop(
      int64_t source,
      int64_t target,
      std::vector<int64_t> rows,
      std::vector<int64_t> columns);

  // The largest values in windows (height, width); what lies outside of the
  // image, after half a window at most, does not count.
  void add_pool(
      int64_t source,
      int64_t target,
      at::Tensor result,
      std::vector<int64_t> kernel,
      std::vector<int64_t> stride,
      std::vector<int64_t> padding);

  // The mean over all positions of an image, (N, C, 1, 1).
  void add_mean(int64_t source, int64_t target, at::Tensor result);

  // The sigmoid of a small image, or the hard one: factors of channel
  // attention. It is computed whole, and has changed if it is another.
  void add_factor(
      int64_t source, int64_t target, at::Tensor result, bool hard);

  // Images of one size, one behind the other in channels.
  void add_join(
      std::vector<int64_t> sources, int64_t target, at::Tensor result);

  // Tensors that may not be written to, or be replaced in place. What writes
  // past torch's version counter is noticed where it changes much: vectors
  // are compared as a whole, of larger tensors some values.
  void watch(const at::Tensor& tensor);
  // True if none of them was.
  bool holds() const;

  // Steps [begin, end), in the order in which they were added.
  void run(int64_t begin, int64_t end);
  // The same for the first frame of a video: Skip-Convolutions compute
  // reference frames.
  void begin(int64_t begin, int64_t end);

 private:
  struct Watched {
    at::Tensor tensor;
    const void* data;
    int64_t version;
    int64_t fingerprint;
  };

  Value& value(int64_t index);
  const Value& value(int64_t index) const;
  // What a step reads and writes, and about what it costs.
  StepUse use_of(int64_t step) const;
  // Steps [begin, end) as run() takes them; they are parted once.
  const std::vector<Section>& sections(int64_t begin, int64_t end);
  // Takes chains in threads; throws what the first of them threw.
  void run_section(const Section& section);
  void check_steps(int64_t begin, int64_t end) const;
  void check_pool(const PoolStep& step) const;
  void check_join(const JoinStep& step) const;
  const PlannedSite& site_of(int64_t target) const;
  void begin_step(ConvStep& step);
  void begin_step(PlannedStep& step);
  template <typename Step>
  void begin_step(Step& step) {
    run_step(step);
  }
  // Takes a step of a Skip-Convolution: update(residuals) is that of its site.
  template <typename Update>
  void update_conv(
      int64_t source,
      int64_t target,
      const Geometry& geometry,
      ChangeMemory& memory,
      const Update& update);
  void run_step(ConvStep& step);
  void run_step(PlannedStep& step);
  void run_step(FollowStep& step);
  template <typename T>
  void follow(FollowStep& step);
  void run_step(SumStep& step);
  template <typename T>
  void add(SumStep& step);
  void run_step(ScaleStep& step);
  template <typename T>
  bool scale(ScaleStep& step, const uint8_t* map);
  void run_step(CropStep& step);
  void run_step(PoolStep& step);
  void run_step(MeanStep& step);
  void run_step(FactorStep& step);
  void run_step(JoinStep& step);
  template <typename T>
  void join(JoinStep& step);

  std::vector<Value> values_;
  std::vector<
      std::variant<
          ConvStep, PlannedStep, FollowStep, SumStep, ScaleStep, CropStep, PoolStep,
          MeanStep, FactorStep, JoinStep>>
      steps_;
  std::vector<Watched> watched_;
  // What sections() parted, by begin and end.
  std::map<std::pair<int64_t, int64_t>, std::vector<Section>> sections_;
};

} // namespace mmskip
