// The operators as torch sees them.
#include <ATen/ATen.h>
#include <torch/custom_class.h>
#include <torch/library.h>

#include "board.h"
#include "dynamic.h"
#include "fingerprint.h"
#include "kernels.h"
#include "layer.h"
#include "skip_frame.h"

namespace mmskip {
namespace {

// (C_out, C_in / groups, h, w) to [group][C_out / 32][tap][C_in][32], with
// zeros behind the last channel; a depthwise kernel to [tap][C].
at::Tensor pack_weight(const at::Tensor& weight, int64_t groups) {
  TORCH_CHECK_VALUE(
      weight.dim() == 4 && weight.scalar_type() == at::kFloat &&
          weight.device().is_cpu(),
      "expected a float32 weight (C_out, C_in / groups, h, w) on the CPU, ",
      "got ", weight.scalar_type(), " of shape ", weight.sizes(), " on ",
      weight.device());
  const int64_t out = weight.size(0), in = weight.size(1);
  TORCH_CHECK_VALUE(
      groups > 0 && out % groups == 0, "expected groups that divide ", out,
      " output channels, got ", groups);
  if (groups > 1 && in == 1 && out == groups) {
    return weight.reshape({out, -1}).t().clone(
        at::MemoryFormat::Contiguous);
  }
  const int64_t each = out / groups;
  const int64_t blocks = (each + kBlock - 1) / kBlock;
  const int64_t taps = weight.size(2) * weight.size(3);
  at::Tensor whole = at::zeros(
      {groups, blocks * kBlock, in, taps}, weight.options());
  whole.narrow(1, 0, each).copy_(weight.reshape({groups, each, in, taps}));
  return whole.view({groups, blocks, kBlock, in, taps})
      .permute({0, 1, 4, 3, 2})
      .clone(at::MemoryFormat::Contiguous);
}

std::tuple<at::Tensor, at::Tensor> skip_frame_op(
    const at::Tensor& x,
    at::Tensor& input,
    at::Tensor& output,
    at::Tensor& scale,
    const std::optional<at::Tensor>& computed,
    const std::optional<at::Tensor>& norms,
    const at::Tensor& weight,
    const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& region,
    at::IntArrayRef kernel_size,
    at::IntArrayRef stride,
    at::IntArrayRef padding,
    at::IntArrayRef dilation,
    int64_t groups,
    const at::Tensor& threshold,
    int64_t block_size,
    int64_t order,
    bool accumulated,
    const std::optional<at::Tensor>& gate_weight,
    const std::optional<at::Tensor>& gate_bias,
    std::string_view sees,
    std::optional<std::string_view> activation) {
  return skip_frame(
      x,
      {input, output, scale, computed, norms, weight, bias, region,
       kernel_size, stride, padding, dilation, groups, threshold, block_size,
       order, accumulated, gate_weight, gate_bias, sees},
      activation);
}

} // namespace

TORCH_LIBRARY(mmskip, m) {
  m.def(
      "skip_frame(Tensor x, Tensor(a!) input, Tensor(b!) output, "
      "Tensor(c!) scale, Tensor(d!)? computed, Tensor? norms, "
      "Tensor weight, Tensor? bias, Tensor? region, "
      "int[] kernel_size, int[] stride, int[] padding, int[] dilation, "
      "int groups, Tensor threshold, int block_size, int order, "
      "bool accumulated, Tensor? gate_weight, Tensor? gate_bias, str sees, "
      "str? activation=None) -> (Tensor, Tensor)");
  m.def("pack_weight(Tensor weight, int groups) -> Tensor");
  m.def("relative_scale(Tensor signal, Tensor? norms) -> Tensor");
  m.def("fingerprint(Tensor tensor, int words) -> int");
  m.def(
      "soft_gate(Tensor x, Tensor squeeze, Tensor? squeeze_bias, "
      "Tensor? mean, Tensor? var, Tensor? scale, Tensor? shift, float eps, "
      "Tensor decide, Tensor beta, int time) -> Tensor");
  m.def(
      "mix_options(Tensor y, Tensor? time, Tensor? time_table, "
      "int[] time_options, Tensor? channels, Tensor? channel_table, "
      "int[] channel_options, Tensor sources, Tensor starts, Tensor? bias, "
      "int[] full) -> Tensor");
  m.class_<Board>("Board")
      .def(torch::init<int64_t>())
      .def("put", &Board::put)
      .def("mark", &Board::mark)
      .def("change", &Board::change)
      .def("map", &Board::map)
      .def("add_conv", &Board::add_conv)
      .def("add_follow", &Board::add_follow)
      .def("add_sum", &Board::add_sum)
      .def("add_pool", &Board::add_pool)
      .def("add_mean", &Board::add_mean)
      .def("add_join", &Board::add_join)
      .def("watch", &Board::watch)
      .def("holds", &Board::holds)
      .def("begin_conv", &Board::begin_conv)
      .def("run", &Board::run);
}

TORCH_LIBRARY_IMPL(mmskip, CPU, m) {
  m.impl("skip_frame", skip_frame_op);
  m.impl("pack_weight", pack_weight);
  m.impl("relative_scale", relative_scale);
  m.impl("fingerprint", fingerprint);
  m.impl("soft_gate", soft_gate);
  m.impl("mix_options", mix_options);
}

} // namespace mmskip
