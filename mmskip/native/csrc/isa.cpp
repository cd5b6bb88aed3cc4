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

// What a leaf of CPUID has, if the bits are all set in one of its registers.
bool has(unsigned subleaf, unsigned eax, unsigned edx) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, subleaf, &a, &b, &c, &d) &&
      (a & eax) == eax && (d & edx) == edx;
}

// Linux gives the large registers of matrix tiles to those who ask.
bool may_use_tiles() {
  constexpr unsigned kBFloat16 = 1u << 22, kTiles = 1u << 24,
                     kBytes = 1u << 25;
  if (!has(0, 0, kBFloat16 | kTiles | kBytes)) {
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

// The kernels for tiles, if the CPU has them or they are to be emulated.
const LowKernels* choose_tiles() {
  const char* tiles = std::getenv("MMSKIP_TILES");
  if (tiles != nullptr && std::string(tiles) == "emulated") {
    return &kEmulatedTiles;
  }
#if defined(__x86_64__)
  if (&kernels() == &kAVX512 && may_use_tiles()) {
    return &kAMX;
  }
#endif
  return nullptr;
}

const ImageKernels<BFloat16>& choose_for_halves() {
  if (const LowKernels* tiles = choose_tiles()) {
    return tiles->halves;
  }
#if defined(__x86_64__)
  if (&kernels() == &kAVX512 && __builtin_cpu_supports("avx512bf16")) {
    return kAVX512BF16;
  }
#endif
  return kernels().halves;
}

const ByteKernels& choose_for_bytes() {
  if (const LowKernels* tiles = choose_tiles()) {
    return tiles->bytes;
  }
#if defined(__x86_64__)
  if (&kernels() == &kAVX512 && __builtin_cpu_supports("avx512vnni")) {
    return kAVX512VNNI;
  }
  constexpr unsigned kAVXBytes = 1u << 4;
  if (&kernels() == &kAVX2 && has(1, kAVXBytes, 0)) {
    return kAVXVNNI;
  }
#endif
  return kernels().bytes;
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

const ByteKernels& byte_kernels() {
  static const ByteKernels& chosen = choose_for_bytes();
  return chosen;
}

} // namespace mmskip
