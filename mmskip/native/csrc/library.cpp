// The operators and classes as torch has them.
#include <torch/custom_class.h>
#include <torch/library.h>

#include "call_site.h"
#include "dynamic.h"
#include "fingerprint.h"
#include "isa.h"
#include "layer.h"
#include "layout.h"
#include "plan.h"

namespace mmskip {

TORCH_LIBRARY(mmskip, m) {
  m.def("relative_scale(Tensor signal, Tensor? norms) -> Tensor");
  m.def("fingerprint(Tensor tensor, int words) -> int");
  m.def("round_to_bytes(Tensor values, float step, int zero) -> Tensor");
  m.def("float_copy(Tensor values) -> Tensor");
  m.def("instruction_sets() -> str[]", [] {
    return std::vector<std::string>{
        kernels().floats.name, half_kernels().name, byte_kernels().name};
  });
  m.def(
      "soft_gate(Tensor x, Tensor squeeze, Tensor? squeeze_bias, "
      "Tensor?[] norm, float eps, Tensor decide, Tensor beta, int time) "
      "-> Tensor");
  m.def(
      "mix_options(Tensor y, Tensor[] time, Tensor[] channels, "
      "Tensor sources, Tensor starts, Tensor? bias, int[] full, bool relu) "
      "-> Tensor");
  m.class_<ConvGeometry>("ConvGeometry")
      .def(torch::init<
           std::vector<int64_t>, std::vector<int64_t>, std::vector<int64_t>,
           int64_t, bool>());
  m.class_<Gate>("Gate").def(
      torch::init<
          double, int64_t, int64_t, std::optional<at::Tensor>,
          std::optional<at::Tensor>, std::optional<at::Tensor>,
          std::string>());
  m.class_<Layer>("Layer")
      .def(torch::init<
           at::Tensor, std::optional<at::Tensor>,
           c10::intrusive_ptr<ConvGeometry>, c10::intrusive_ptr<Gate>, bool,
           std::optional<std::string>>())
      .def("force", &Layer::force)
      .def("is_computed_anew", &Layer::is_computed_anew)
      .def("convolve", [](const c10::intrusive_ptr<Layer>& layer,
                          const at::Tensor& x) {
        return convolve_anew(layer, x);
      });
  m.class_<CallSite>("CallSite")
      .def(torch::init<c10::intrusive_ptr<Layer>, std::vector<at::Tensor>>())
      .def("run", &CallSite::run);
  m.class_<Plan>("Plan")
      .def(torch::init<int64_t>())
      .def("put", &Plan::put)
      .def("mark", &Plan::mark)
      .def("change", &Plan::change)
      .def("map", &Plan::map)
      .def("add_conv", &Plan::add_conv)
      .def("add_planned_conv", &Plan::add_planned_conv)
      .def("remembered", &Plan::remembered)
      .def("num_bytes", &Plan::num_bytes)
      .def("computed", &Plan::computed)
      .def("add_follow", &Plan::add_follow)
      .def("add_sum", &Plan::add_sum)
      .def("add_scale", &Plan::add_scale)
      .def("add_crop", &Plan::add_crop)
      .def("add_pool", &Plan::add_pool)
      .def("add_mean", &Plan::add_mean)
      .def("add_factor", &Plan::add_factor)
      .def("add_join", &Plan::add_join)
      .def("watch", &Plan::watch)
      .def("holds", &Plan::holds)
      .def("run", &Plan::run)
      .def("begin", &Plan::begin);
}

TORCH_LIBRARY_IMPL(mmskip, CPU, m) {
  m.impl("relative_scale", relative_scale);
  m.impl("fingerprint", fingerprint);
  m.impl("round_to_bytes", round_to_bytes);
  m.impl("float_copy", float_copy);
  m.impl("soft_gate", soft_gate);
  m.impl("mix_options", mix_options);
}

} // namespace mmskip
