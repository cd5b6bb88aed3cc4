#include "isa.h"

#include <ATen/Version.h>

#include <cstdlib>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mmskip {
namespace {

const Kernels& choose() {
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

#if defined(__x86_64__)

// Linux gives the large registers of matrix tiles to those who ask.
bool may_use_tiles() {
  constexpr unsigned kBFloat16 = 1u << 22, kTiles = 1u << 24;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) ||
      (d & (kBFloat16 | kTiles)) != (kBFloat16 | kTiles)) {
    return false;
  }
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

#endif

const ImageKernels<BFloat16>& choose_for_halves() {
  const char* tiles = std::getenv("MMSKIP_TILES");
  if (tiles != nullptr && std::string(tiles) == "emulated") {
    return kEmulatedTiles;
  }
#if defined(__x86_64__)
  if (&kernels() == &kAVX512) {
    if (may_use_tiles()) {
      return kAMX;
    }
    if (__builtin_cpu_supports("avx512bf16")) {
      return kAVX512BF16;
    }
  }
#endif
  return kernels().halves;
}

} // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

const ImageKernels<BFloat16>& half_kernels() {
  static const ImageKernels<BFloat16>& chosen = choose_for_halves();
  return chosen;
}

} // namespace mmskip
