#include "layer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "arguments.h"
#include "layout.h"

namespace mmskip {
namespace {

// (C_out, C_in / groups, h, w) to [group][C_out / 32][run][length / some][32]
// [some], where runs are those of Runs and some are kPacked, with zeros behind
// the last channel and the last of a run; a depthwise kernel to [tap][C].
at::Tensor pack(
    const at::Tensor& weight, const ConvGeometry& geometry, at::ScalarType type) {
  check_floats(weight, "weight");
  TORCH_CHECK_VALUE(
      weight.dim() == 4,
      "expected a weight (C_out, C_in / groups, h, w), got shape ",
      weight.sizes());
  const int64_t out = weight.size(0), in = weight.size(1);
  const int64_t groups = geometry.groups;
  TORCH_CHECK_VALUE(
      groups > 0 && out % groups == 0, "expected groups that divide ", out,
      " output channels, got ", groups);
  if (groups > 1 && in == 1 && out == groups) {
    return weight.reshape({out, -1})
        .t()
        .to(type)
        .clone(at::MemoryFormat::Contiguous);
  }
  const int64_t each = out / groups;
  const int64_t blocks = (each + kBlock - 1) / kBlock;
  const bool by_row = groups == 1 && geometry.dilation[1] == 1;
  const int64_t taps = weight.size(2) * weight.size(3);
  const int64_t runs = by_row ? weight.size(2) : taps;
  const int64_t length = taps / runs * in;
  const int64_t some = kPacked<uint8_t> / at::elementSize(type);
  const int64_t steps = (length + some - 1) / some;
  at::Tensor whole = at::zeros(
      {groups, blocks * kBlock, runs, steps * some}, weight.options());
  whole.narrow(1, 0, each).narrow(3, 0, length).copy_(
      weight.reshape({groups, each, in, taps})
          .transpose(2, 3)
          .reshape({groups, each, runs, length}));
  return whole.view({groups, blocks, kBlock, runs, steps, some})
      .permute({0, 1, 3, 4, 2, 5})
      .to(type)
      .clone(at::MemoryFormat::Contiguous);
}

std::optional<at::Tensor> filter_of(const std::optional<at::Tensor>& weight) {
  if (!weight) {
    return std::nullopt;
  }
  check_floats(*weight, "gate weight");
  TORCH_CHECK_VALUE(
      weight->dim() == 4 && weight->size(0) == 1,
      "expected a gate weight of shape [1, C_in, h, w], got ",
      weight->sizes());
  return weight->detach().contiguous(at::MemoryFormat::ChannelsLast);
}

// What the outputs of a phase read along an axis, of a kernel that is a stride
// long or longer.
struct Reads {
  Reads(int64_t phase, int64_t kernel, int64_t stride, int64_t shift)
      : low((phase + shift) % stride),
        count((kernel - low + stride - 1) / stride),
        last((phase + shift - low) / stride),
        first(last - count + 1) {}

  // The least position of the kernel among those that are stride apart, and
  // how many there are.
  int64_t low, count;
  // The inputs that the first output of the phase reads there, from the one at
  // the largest position on.
  int64_t last, first;
};

void check_transposed(const at::Tensor& weight, const ConvGeometry& g) {
  bool fits = g.groups == 1 && g.dilation[0] == 1 && g.dilation[1] == 1;
  for (int64_t axis = 0; axis < 2; ++axis) {
    const int64_t more = weight.size(2 + axis) - g.stride[axis];
    const int64_t before = g.padding[2 * axis];
    fits = fits && more >= 0 && before >= 0 &&
        more == before + g.padding[2 * axis + 1];
  }
  TORCH_CHECK_VALUE(
      fits, "expected a transposed convolution without groups and dilation, "
      "of outputs that are stride times as large as inputs, got a kernel of ",
      weight.sizes().slice(2), " with stride ", g.stride, " and padding ",
      g.padding);
}

std::vector<Phase> phases_of(
    const at::Tensor& weight,
    const std::optional<at::Tensor>& bias,
    const ConvGeometry& g) {
  if (!g.transposed) {
    return {};
  }
  check_transposed(weight, g);
  const auto ones = std::vector<int64_t>{1, 1};
  const auto none = std::vector<int64_t>{0, 0, 0, 0};
  const auto plain =
      c10::make_intrusive<ConvGeometry>(ones, none, ones, 1, false);
  const auto gate = c10::make_intrusive<Gate>(
      0, 1, 1, std::nullopt, std::nullopt, std::nullopt, "residual");
  std::vector<Phase> phases;
  for (int64_t row = 0; row < g.stride[0]; ++row) {
    const Reads rows(row, weight.size(2), g.stride[0], g.padding[0]);
    for (int64_t column = 0; column < g.stride[1]; ++column) {
      const Reads columns(column, weight.size(3), g.stride[1], g.padding[2]);
      // The larger a position, the earlier the input that is read there.
      const at::Tensor part =
          weight.slice(2, rows.low, std::nullopt, g.stride[0])
              .slice(3, columns.low, std::nullopt, g.stride[1])
              .flip({2, 3});
      phases.push_back(
          {c10::make_intrusive<Layer>(
               part, bias, plain, gate, true, std::nullopt),
           row, column, rows.first, columns.first});
    }
  }
  return phases;
}

// Pads an axis of a transposed layer so that all of its phases can be read.
void pad_for(
    int64_t kernel,
    int64_t stride,
    int64_t shift,
    int64_t& before,
    int64_t& after) {
  for (int64_t phase = 0; phase < stride; ++phase) {
    const Reads reads(phase, kernel, stride, shift);
    before = std::max(before, -reads.first);
    after = std::max(after, reads.last);
  }
}

int64_t out_size(
    int64_t padded, int64_t kernel, int64_t dilation, int64_t stride) {
  const int64_t reach = dilation * (kernel - 1) + 1;
  return padded < reach ? 0 : (padded - reach) / stride + 1;
}

} // namespace

ConvGeometry::ConvGeometry(
    std::vector<int64_t> stride,
    std::vector<int64_t> padding,
    std::vector<int64_t> dilation,
    int64_t groups,
    bool transposed)
    : stride(std::move(stride)),
      padding(std::move(padding)),
      dilation(std::move(dilation)),
      groups(groups),
      transposed(transposed) {
  check_list(this->stride, 2, 1, "stride");
  // What lies after a transposed one may be cut off.
  check_list(
      this->padding, 4,
      transposed ? std::numeric_limits<int64_t>::min() : 0, "padding");
  check_list(this->dilation, 2, 1, "dilation");
}

Geometry Phase::geometry_for(const Geometry& whole) const {
  Geometry g = whole;
  g.transposed = false;
  g.kernel_height = layer->weight.size(2);
  g.kernel_width = layer->weight.size(3);
  g.stride_height = g.stride_width = 1;
  g.out_height = whole.height;
  g.out_width = whole.width;
  g.unread_height = whole.top + first_height;
  g.unread_width = whole.left + first_width;
  g.first_row = row;
  g.first_column = column;
  g.row_step = whole.stride_height;
  g.column_step = whole.stride_width;
  return g;
}

Gate::Gate(
    double threshold,
    int64_t block_size,
    int64_t order,
    std::optional<at::Tensor> norms,
    std::optional<at::Tensor> weight,
    std::optional<at::Tensor> bias,
    const std::string& input)
    : threshold(static_cast<float>(threshold)),
      block_size(block_size),
      order(static_cast<int>(order)),
      norms(std::move(norms)),
      kernel(filter_of(weight)),
      bias(std::move(bias)),
      input(parse_gate_input(input)) {
  TORCH_CHECK_VALUE(
      block_size == 1 || block_size == 2 || block_size == 4 ||
          block_size == 8,
      "expected block_size 1, 2, 4 or 8, got ", block_size);
  TORCH_CHECK_VALUE(
      order == 1 || order == 2, "expected order 1 or 2, got ", order);
  TORCH_CHECK_VALUE(
      kernel.has_value() == this->bias.has_value(),
      "expected both weight and bias of a learned gate, or none, got one of "
      "them");
  if (this->bias) {
    check_channels(*this->bias, 1, "gate bias");
  }
}

void Layer::force(const at::Tensor& mask) {
  TORCH_CHECK_TYPE(
      mask.scalar_type() == at::kBool && mask.device().is_cpu(),
      "expected a mask of dtype bool on the CPU, got ", mask.scalar_type(),
      " on ", mask.device());
  forced = mask.contiguous();
}

Layer::Layer(
    const at::Tensor& weight,
    std::optional<at::Tensor> bias,
    c10::intrusive_ptr<ConvGeometry> geometry,
    c10::intrusive_ptr<Gate> gate,
    bool accumulated,
    const std::optional<std::string>& activation)
    : weight(weight.detach()),
      phases(phases_of(this->weight, bias, *geometry)),
      packed(
          geometry->transposed
              ? at::Tensor()
              : pack(this->weight, *geometry, at::kFloat)),
      bias(std::move(bias)),
      start(this->bias ? *this->bias
                       : at::zeros({weight.size(0)}, weight.options())),
      geometry(std::move(geometry)),
      gate(std::move(gate)),
      accumulated(accumulated),
      activation(parse_activation(activation)) {
  check_channels(start, weight.size(0), "bias");
  if (this->gate->norms) {
    check_channels(*this->gate->norms, weight.size(0), "norms");
  }
  if (this->gate->kernel) {
    const at::IntArrayRef found = this->gate->kernel->sizes();
    const std::vector<int64_t> expected{
        1, weight.size(1) * this->geometry->groups, weight.size(2),
        weight.size(3)};
    TORCH_CHECK_VALUE(
        found == at::IntArrayRef(expected),
        "expected a gate weight of shape ", at::IntArrayRef(expected),
        ", got ", found);
  }
}

const at::Tensor& Layer::packed_as(at::ScalarType type) const {
  if (type == at::kFloat) {
    return packed;
  }
  if (!halves_.defined()) {
    halves_ = pack(weight, *geometry, at::kBFloat16);
  }
  return halves_;
}

const ByteWeight& Layer::packed_in_bytes() const {
  if (!bytes_.packed.defined()) {
    const at::Tensor most = weight.flatten(1).abs().amax(1);
    const at::Tensor scale =
        at::where(most > 0, most / static_cast<double>(kMostWeight), 1.0);
    const at::Tensor bytes = at::round(weight / scale.view({-1, 1, 1, 1}));
    bytes_ = {
        pack(bytes, *geometry, at::kChar), scale.to(at::kFloat),
        bytes.flatten(1).sum(1)};
  }
  return bytes_;
}

Geometry Layer::geometry_for(at::IntArrayRef input) const {
  const int64_t groups = geometry->groups;
  TORCH_CHECK_VALUE(
      input.size() == 4 && input[1] == weight.size(1) * groups,
      "expected an input (N, ", weight.size(1) * groups,
      ", H, W), got shape ", input);
  Geometry g{};
  g.streams = input[0];
  g.in_channels = input[1];
  g.height = input[2];
  g.width = input[3];
  g.kernel_height = weight.size(2);
  g.kernel_width = weight.size(3);
  g.stride_height = geometry->stride[0];
  g.stride_width = geometry->stride[1];
  g.dilation_height = geometry->dilation[0];
  g.dilation_width = geometry->dilation[1];
  g.groups = groups;
  g.out_channels = weight.size(0);
  g.transposed = geometry->transposed;
  if (g.transposed) {
    g.shift_height = geometry->padding[0];
    g.shift_width = geometry->padding[2];
    pad_for(
        g.kernel_height, g.stride_height, g.shift_height, g.top, g.bottom);
    pad_for(g.kernel_width, g.stride_width, g.shift_width, g.left, g.right);
    g.out_height = g.height * g.stride_height;
    g.out_width = g.width * g.stride_width;
  } else {
    g.top = geometry->padding[0];
    g.bottom = geometry->padding[1];
    g.left = geometry->padding[2];
    g.right = geometry->padding[3];
    g.out_height = out_size(
        g.padded_height(), g.kernel_height, g.dilation_height,
        g.stride_height);
    g.out_width = out_size(
        g.padded_width(), g.kernel_width, g.dilation_width, g.stride_width);
  }
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  TORCH_CHECK_VALUE(
      g.streams * g.out_size() * g.out_channels <= most &&
          g.streams * g.padded_size() <= most,
      "expected less than 2^31 outputs, got an input of shape ", input);
  return g;
}

bool Layer::lies_last() const {
  return is_channels_last(
      geometry->transposed ? weight.transpose(0, 1) : weight);
}

at::Tensor Layer::convolve(const at::Tensor& x) const {
  const std::vector<int64_t>& pad = geometry->padding;
  if (geometry->transposed) {
    return at::conv_transpose2d(
        x, weight.transpose(0, 1), bias, geometry->stride,
        {pad[0], pad[2]}, {pad[0] - pad[1], pad[2] - pad[3]}, 1);
  }
  const bool even = pad[0] == pad[1] && pad[2] == pad[3];
  const at::Tensor image = even
      ? x
      : at::constant_pad_nd(x, {pad[2], pad[3], pad[0], pad[1]}, 0);
  const std::vector<int64_t> inner{even ? pad[0] : 0, even ? pad[2] : 0};
  return at::conv2d(
      image, weight, bias, geometry->stride, inner, geometry->dilation,
      geometry->groups);
}

} // namespace mmskip
