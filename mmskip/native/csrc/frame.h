// The steps of one frame of a Skip-Convolution, shared out among threads.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "geometry.h"
#include "isa.h"
#include "kernels.h"
#include "mask.h"

namespace mmskip {

// What is remembered of an input, with or without what it is padded by.
template <typename T>
struct Reference {
  T* image;
  bool is_padded = false;
  // Of an image of bytes.
  Grid grid = {};
};

// Copies so many values into an image of a type.
template <typename T>
void put_values(
    const ValueOf<T>* from, const Grid& grid, int64_t count, T* to) {
  if constexpr (std::is_same_v<T, ValueOf<T>>) {
    std::memcpy(to, from, count * sizeof(T));
  } else {
    byte_kernels().round(from, grid, count, to);
  }
}

// The settings of a learned gate; without a kernel: a norm gate.
struct LearnedGate {
  // [position][C_in].
  const float* kernel = nullptr;
  GateInput input = GateInput::kResidual;
};

// The maps of the residuals, see Comparison.
struct Residuals {
  const uint8_t* candidates;
  uint8_t* changed;
  float* scores;
};

// The places of outputs, plain and after an activation; null: nowhere.
struct Results {
  float* output;
  float* activated;
  Activation activation;
};

// Maps of scores: one, or one for each position of a learned gate's kernel.
inline int64_t score_maps(const Geometry& geometry, bool learned) {
  return learned ? geometry.positions() : 1;
}

class Frame {
 public:
  Frame(
      const Geometry& geometry,
      const Rule& rule,
      const LearnedGate& gate,
      const Residuals& residuals,
      int64_t block_size);

  // Compares x with the reference, which becomes the residual if asked to.
  template <typename T>
  void compare(
      const ValueOf<T>* x, const Reference<T>& reference, bool subtract);

  // True if nothing fires, because nothing has changed.
  bool is_idle() const;

  // Finds the outputs that the gate wants.
  void decide(uint8_t* mask) const;

  // From what the gate wants to what is transmitted and, by that, computed;
  // the reference becomes x where it is transmitted.
  template <typename T>
  void transmit(
      uint8_t* mask, const ValueOf<T>* x, const Reference<T>& reference);

  // The changed positions of the reference become those of x, all or those
  // that are transmitted, and have changed no more.
  template <typename T>
  void renew(
      const ValueOf<T>* x,
      const Reference<T>& reference,
      const uint8_t* transmitted = nullptr);

  // Lists the outputs to compute; of a phase, those of its own in a mask of all.
  void list(const uint8_t* mask);
  // How many they are, of each stream and altogether.
  const std::vector<int64_t>& counts() const { return listed_; }
  int64_t total() const { return total_; }

  // Computes them: adds what the changed inputs give to the output, or
  // replaces it by what all of them give, and the bias.
  void accumulate(
      const float* input,
      const float* weight,
      const float* bias,
      const Results& results) const;

  // Computes them anew, and finishes them.
  template <typename T>
  void convolve(Convolution<T> job) const;

  // True if the next frame, should x stay the same, can compute anything.
  bool stays_active() const;

 private:
  // Shares out run(begin, end, first, last): outputs and blocks of channels.
  template <typename Run>
  void share_outputs(const Run& run) const;
  bool fires_at_rest() const;
  // True if each output reads the input at its place, and no other.
  bool is_pointwise() const;
  // False for rows of outputs of which none fires.
  bool may_fire(int64_t row) const;
  bool reads_frames() const;
  void grow(uint8_t* mask) const;
  int64_t input_grain() const;

  const Geometry& g_;
  const Rule& rule_;
  const LearnedGate gate_;
  const int64_t block_size_;
  const Kernels& kernels_;
  const Residuals residuals_;
  // By row of the input how many positions have changed; the outputs to
  // compute. Both are of the thread, which has one frame at a time.
  int32_t* const counts_;
  int32_t* active_ = nullptr;
  std::vector<int64_t> listed_;
  int64_t total_ = 0;
};

} // namespace mmskip
