// The kernels for the instruction set of this CPU.
#pragma once

#include <type_traits>

#include "kernels.h"

namespace mmskip {

// The best kernels for this CPU; ATEN_CPU_CAPABILITY limits it, as torch.
const Kernels& kernels();

// Those for images of bfloat16, for which some CPUs have instructions of their
// own. MMSKIP_TILES=emulated asks for the kernels that AMX has, computed
// without it.
const ImageKernels<BFloat16>& half_kernels();

// The same for bytes.
const ByteKernels& byte_kernels();

// Those for images of a type.
template <typename T>
const auto& image_kernels() {
  if constexpr (std::is_same_v<T, float>) {
    return kernels().floats;
  } else if constexpr (std::is_same_v<T, uint8_t>) {
    return byte_kernels();
  } else {
    return half_kernels();
  }
}

} // namespace mmskip
