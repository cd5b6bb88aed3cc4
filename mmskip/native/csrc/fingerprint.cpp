#include "fingerprint.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace mmskip {
namespace {

constexpr uint64_t kOdd = 0x9E3779B97F4A7C15u;
constexpr int64_t kLanes = 4;

uint64_t mixed(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * kOdd;
  return hash ^ (hash >> 29);
}

template <typename Word>
Word word_at(const uint8_t* data, int64_t index) {
  Word word;
  std::memcpy(&word, data + index * sizeof(Word), sizeof(Word));
  return word;
}

// Several lanes, so that one multiplication does not wait for another.
uint64_t hash_all(const uint8_t* data, int64_t bytes) {
  std::array<uint64_t, kLanes> lanes{1, 2, 3, 4};
  const int64_t words = bytes / sizeof(uint64_t);
  int64_t i = 0;
  for (; i + kLanes <= words; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = mixed(lanes[lane], word_at<uint64_t>(data, i + lane));
    }
  }
  uint64_t hash = bytes;
  for (const uint64_t lane : lanes) {
    hash = mixed(hash, lane);
  }
  for (i *= sizeof(uint64_t); i < bytes; ++i) {
    hash = mixed(hash, data[i]);
  }
  return hash;
}

// Not at even distances, which may be those of channels.
uint64_t hash_some(const uint8_t* data, int64_t bytes, int64_t words) {
  const uint64_t step = bytes / sizeof(uint32_t) / words;
  uint64_t hash = bytes;
  for (int64_t i = 0; i < words; ++i) {
    // A part of a step, without a division.
    const uint64_t place = i * step + ((i * kOdd >> 32) * step >> 32);
    hash = mixed(hash, word_at<uint32_t>(data, place));
  }
  return hash;
}

} // namespace

int64_t fingerprint(const at::Tensor& tensor, int64_t words) {
  TORCH_CHECK_VALUE(
      tensor.device().is_cpu(), "expected a tensor on the CPU, got one on ",
      tensor.device());
  const at::Tensor dense =
      tensor.is_non_overlapping_and_dense() ? tensor : tensor.contiguous();
  const auto* data = static_cast<const uint8_t*>(dense.const_data_ptr());
  const int64_t bytes = dense.nbytes();
  const bool whole =
      words <= 0 || bytes <= words * static_cast<int64_t>(sizeof(uint32_t));
  return static_cast<int64_t>(
      whole ? hash_all(data, bytes) : hash_some(data, bytes, words));
}

} // namespace mmskip
