// The inner loops, compiled once per instruction set.
#pragma once

#include <cstdint>

#include "geometry.h"

namespace mmskip {

// Output channels in one block of packed weights.
constexpr int64_t kBlock = 32;

// Images that are summed at a time.
constexpr int64_t kMaxTerms = 8;

// A number in bfloat16: the upper half of a float.
struct BFloat16 {
  uint16_t bits;
};

// An image of a type is made of values, and multiplied with weights, of that
// type. One of bytes is made of values in bfloat16, see Grid.
template <typename T>
struct ImageOf {
  using Value = T;
  using Weight = T;
};

template <>
struct ImageOf<uint8_t> {
  using Value = BFloat16;
  using Weight = int8_t;
};

template <typename T>
using ValueOf = typename ImageOf<T>::Value;
template <typename T>
using WeightOf = typename ImageOf<T>::Weight;

// The numbers that the bytes of an image stand for: (byte - zero) * step.
struct Grid {
  float step = 1;
  float zero = 0;
  // 1 / step.
  float inverse = 1;
};

// The largest weight in bytes. Two products of it with the largest byte can
// be added in 16 bits, as some CPUs do.
constexpr int64_t kMostWeight = 63;

// Numbers of a type that are multiplied at once, and lie side by side in
// packed weights.
template <typename T>
constexpr int64_t kPacked = 4 / sizeof(T);

// Activations of outputs and sums on their way on. Kernels are compiled for
// each of the first; for the others once.
enum class ActivationKind : int64_t {
  kNone,
  kReLU,
  kSiLU,
  kReLU6,
  kHardswish,
  kLeakyReLU,
};
constexpr ActivationKind kAnyOther = ActivationKind::kReLU6;

struct Activation {
  ActivationKind kind = ActivationKind::kNone;
  // Of a leaky ReLU: what is below 0 is multiplied by it.
  float slope = 0;

  bool is_none() const { return kind == ActivationKind::kNone; }
};

// Inputs that a learned gate may convolve.
enum class GateInput : int64_t { kResidual, kMagnitude, kSquare, kFrame };

// A frame beside what is remembered of it. Maps are padded, 0 outside of the
// image. Images are of floats or of bfloat16, here and below; references may
// be of bytes.
template <typename T>
struct Comparison {
  const Geometry* geometry;
  // (N, H, W, C_in).
  const ValueOf<T>* x;
  // The same; (N, padded_height, padded_width, C_in) if it is padded.
  T* reference;
  bool is_padded;
  // Of a reference of bytes.
  Grid grid;
  // (N, H, W): where x may differ from the frame before. Elsewhere scores and
  // changed hold what they held then. Null: anywhere, and both maps are 0.
  const uint8_t* candidates;
  // True if the reference is to become the residual where it is not 0.
  bool subtract;
  // Of a norm gate: 1 or 2.
  int order;
  // Of a learned gate: its kernel [position][C_in]; null for a norm gate.
  const float* gate;
  GateInput gate_input;
  // What each input adds to the statistics of the outputs that read it. Of a
  // norm gate: one map, the mean over channels of |residual|^order. Of a
  // learned gate: for each kernel position a map of products with it.
  float* scores;
  // Map of the positions with a residual that is not all 0.
  uint8_t* changed;
  // How many they are, by row.
  int32_t* counts;
};

// A sum of images of which only parts have changed.
template <typename T>
struct Sum {
  // Of the result.
  int64_t streams, height, width, channels;
  // (N, H / factor, W / factor, C) each: larger, by nearest neighbours.
  int64_t count;
  const T* const* images;
  const int64_t* factors;
  // Where they have changed, like them without channels. Of some none may be
  // given: they have not.
  int64_t num_maps;
  const uint8_t* const* maps;
  const int64_t* map_factors;
  // True if all of it is computed, whatever the maps say.
  bool everywhere;
  // (C) each: what the sum is multiplied by, and what is added then; null:
  // neither.
  const float* scale;
  const float* shift;
  Activation activation;
  T* result;
  // (N, H, W): where it was computed, filled here.
  uint8_t* mask;
  // At how many positions, by row.
  int32_t* counts;
};

// The largest values in windows of an image of which only parts have changed.
template <typename T>
struct Pool {
  // (N, H, W, C), and where it has changed (N, H, W); null: anywhere.
  int64_t height, width, channels;
  const T* image;
  const uint8_t* map;
  // (N, H_out, W_out, C), and where it was computed, filled here.
  int64_t out_height, out_width;
  T* result;
  uint8_t* mask;
  int64_t kernel_height, kernel_width;
  int64_t stride_height, stride_width;
  int64_t top, left;
  // At how many positions, by row of the result.
  int32_t* counts;
};

// The sums of the rows of an image of which only parts have changed.
template <typename T>
struct RowSums {
  // (N, H, W, C), and where it has changed (N, H, W); null: anywhere.
  int64_t width, channels;
  const T* image;
  const uint8_t* map;
  // (N, H, C).
  float* sums;
};

// A copy of an image that follows it, rounded to its own type.
template <typename T>
struct Following {
  // (N, H, W, C).
  int64_t width, channels;
  const float* image;
  T* copy;
  // (N, H, W): where they differed, filled here.
  uint8_t* mask;
  // At how many positions, by row.
  int32_t* counts;
};

// When an output fires: not (statistic <= threshold). The statistic is, of a
// norm gate, scale * mean^(1 / order), and of a learned gate
// scale^order * sum + bias.
struct Rule {
  float threshold;
  int order;
  // One factor for all streams, or one for each.
  const float* scale;
  bool scale_by_stream;
  // Of a learned gate; null for a norm gate.
  const float* bias;
  // (H_out, W_out): where outputs may fire at all; null for everywhere.
  const uint8_t* forced;

  // True if outputs without any change in their support fire in a stream.
  bool fires_at_rest(int64_t stream) const;
};

// The outputs that get the sums over their taps, and all that these read.
struct Accumulation {
  const Geometry* geometry;
  // (N, H, W, C_in): residuals, or the transmitted input.
  const float* input;
  // Padded map of the input positions to read; the others count as 0.
  const uint8_t* readable;
  // kernel_width * C_in zeros.
  const float* zeros;
  // As packed by pack_weight().
  const float* weight;
  // Null: add to the output. Else (C_out): replace it by bias plus sum.
  const float* bias;
  // (N, H_out, W_out, C_out).
  float* output;
  // The same after an activation, where it is computed; null: nowhere.
  float* activated;
  Activation activation;
  // Indices of the outputs to compute, ascending, over all streams.
  const int32_t* active;
};

// Outputs that are computed anew from all that they read, and finished.
template <typename T>
struct Convolution {
  const Geometry* geometry;
  // (N, padded_height, padded_width, C_in), 0 outside of the image; another
  // kPacked<T> elements behind its end can be read.
  const T* image;
  // As packed by Layer::pack(); of a depthwise one [tap][C].
  const WeightOf<T>* weight;
  // (C_out).
  const float* bias;
  // (C_out): what is multiplied with the sum of bytes and bias.
  const float* scale;
  Activation activation;
  // (N, H_out, W_out, C_out).
  ValueOf<T>* output;
  // (N, rows, W_out, C_out): of each `signal_step`-th row what was given to
  // the activation; null: it is not kept.
  ValueOf<T>* signal;
  int64_t signal_step;
  // Indices of the outputs to compute, ascending, over all streams.
  const int32_t* active;
};

// The elements that an output reads, in runs that lie side by side in a
// padded image: the rows of the kernel, or its positions.
struct Runs {
  explicit Runs(const Geometry& g)
      : by_row(g.groups == 1 && g.dilation_width == 1),
        count(by_row ? g.kernel_height : g.positions()),
        length((by_row ? g.kernel_width : 1) * g.in_channels / g.groups) {}

  // Where a run begins, from the first element that an output reads on.
  int64_t offset(const Geometry& g, int64_t run) const {
    const int64_t row = by_row ? run : run / g.kernel_width;
    const int64_t column = by_row ? 0 : run % g.kernel_width;
    return (row * g.dilation_height * g.padded_width() +
            column * g.dilation_width) *
        g.in_channels;
  }

  // Elements of a packed kernel for a run of one output channel.
  template <typename T>
  int64_t packed_length() const {
    return (length + kPacked<T> - 1) / kPacked<T> * kPacked<T>;
  }

  const bool by_row;
  const int64_t count, length;
};

// Most runs of one output.
constexpr int64_t kMaxRuns = 128;

// The clips that a gate pools, and their statistics.
struct ClipPool {
  // (N, C, T) planes of `size` floats each, so many floats apart.
  int64_t channels, frames, size;
  int64_t sample_step, channel_step, frame_step;
  const float* x;
  // (N, C or 2 C): the means, and the mean absolute differences of
  // consecutive frames.
  bool differences;
  float* result;
};

// A frame of a clip, channels last, that a gate pools.
struct FramePool {
  // (positions, channels) of the frame, and of the one before it.
  int64_t positions, channels;
  const float* frame;
  const float* before;
  // (channels): sums, and sums of absolute differences; null: of these none.
  float* sums;
  float* changes;
};

// Channels side by side of a mixed frame, channels last: weighted sums of
// computed channels that lie side by side, too.
struct RunMix {
  int64_t terms, length, positions;
  // Where the first channel of each term lies, and from there on each
  // `computed` floats.
  const float* const* from;
  int64_t computed;
  // (terms, length).
  const float* factors;
  // (length); null: nothing is added.
  const float* bias;
  // The first channel, and from there on each `channels` floats.
  float* to;
  int64_t channels;
  bool relu;
};

// Weighted sums of planes; K terms, those of a sum one behind the other.
struct PlaneSum {
  // (N, P_in) and (N, P_out) planes of `size` floats each.
  int64_t planes, sums, size;
  const float* from;
  float* to;
  // (P_out): first term of each sum; (K): plane of each term.
  const int64_t* starts;
  int64_t terms;
  const int64_t* sources;
  // (N, K).
  const float* factors;
  // (P_out / frames), added to the sums; null: nothing is.
  const float* bias;
  int64_t frames;
};

// What works on images of a type.
template <typename T>
struct ImageKernels {
  const char* name;

  // Rows [begin, end) of the input, of all streams.
  void (*compare)(const Comparison<T>& job, int64_t begin, int64_t end);

  // Of a row of an image, (width, channels): the sums of how much neighbours
  // differ, (channels).
  void (*sum_steps)(
      const T* row, int64_t width, int64_t channels, float* sums);

  // Rows [begin, end) of the image, of all streams.
  void (*follow)(const Following<T>& job, int64_t begin, int64_t end);
  void (*sum_rows)(const RowSums<T>& job, int64_t begin, int64_t end);

  // Rows [begin, end) of the result, of all streams.
  void (*add)(const Sum<T>& job, int64_t begin, int64_t end);
  void (*pool)(const Pool<T>& job, int64_t begin, int64_t end);

  // Outputs active[begin, end), blocks [first, last) of their channels; of a
  // depthwise one all channels.
  void (*convolve)(
      const Convolution<T>& job,
      int64_t begin,
      int64_t end,
      int64_t first,
      int64_t last);
};

// What works on references of bytes; as ImageKernels.
struct ByteKernels {
  const char* name;

  void (*compare)(
      const Comparison<uint8_t>& job, int64_t begin, int64_t end);

  void (*sum_steps)(
      const uint8_t* row, int64_t width, int64_t channels, float* sums);

  // The bytes nearest to so many values; a NaN becomes 0.
  void (*round)(
      const BFloat16* from, const Grid& grid, int64_t count, uint8_t* to);

  void (*convolve)(
      const Convolution<uint8_t>& job,
      int64_t begin,
      int64_t end,
      int64_t first,
      int64_t last);
};

struct Kernels {
  ImageKernels<float> floats;
  ImageKernels<BFloat16> halves;
  ByteKernels bytes;

  // Outputs active[begin, end), blocks [first, last) of their channels.
  void (*accumulate)(
      const Accumulation& job,
      int64_t begin,
      int64_t end,
      int64_t first,
      int64_t last);

  // The same for groups = C_in = C_out, all channels.
  void (*depthwise)(const Accumulation& job, int64_t begin, int64_t end);

  // The sum over the kernel support of each output of rows [begin, end) of
  // all streams, of a padded map; each kernel position reads a map of its
  // own, `step` floats after that of the position before it.
  void (*support_sum)(
      const Geometry& geometry,
      const float* maps,
      int64_t step,
      float* sums,
      int64_t begin,
      int64_t end);

  // Turns rows [begin, end) of the sums of scores into a mask.
  void (*threshold)(
      const Geometry& geometry,
      const Rule& rule,
      const float* sums,
      uint8_t* mask,
      int64_t begin,
      int64_t end);

  // Channels [begin, end), of all samples.
  void (*pool_clip)(const ClipPool& job, int64_t begin, int64_t end);

  // Sums [begin, end), of all samples.
  void (*sum_planes)(const PlaneSum& job, int64_t begin, int64_t end);

  // The same of clips that lie channels last.
  void (*pool_frame)(const FramePool& job);
  void (*mix_run)(const RunMix& job);
};

extern const Kernels kPortable;
// Those that some CPUs have instructions of their own for.
struct LowKernels {
  ImageKernels<BFloat16> halves;
  ByteKernels bytes;
};

extern const LowKernels kEmulatedTiles;
#if defined(__x86_64__)
extern const Kernels kAVX2;
extern const Kernels kAVX512;
extern const ByteKernels kAVXVNNI;
extern const ByteKernels kAVX512VNNI;
extern const ImageKernels<BFloat16> kAVX512BF16;
extern const LowKernels kAMX;
#endif

} // namespace mmskip
