// The mixing of clips whose channels lie side by side.
#pragma once

#include <cstdint>
#include <vector>

namespace mmskip {

// Channels of a mixed frame that are sums of computed channels side by side.
struct MixRun {
  // The first channel, and how many there are.
  int64_t first, length;
  // Of each term of their sums, where in a sample the first computed channel
  // lies.
  std::vector<int64_t> sources;
};

// The runs of each frame, from the terms of the sums of (channels, frames),
// whose sources are (computed frame, computed channel).
std::vector<std::vector<MixRun>> list_mix_runs(
    int64_t channels,
    int64_t frames,
    const int64_t* starts,
    const int64_t* sources,
    int64_t terms,
    int64_t computed,
    int64_t positions);

// Positions [begin, end) of a mixed frame.
struct FrameMix {
  int64_t begin, end;
  // Channels of a position of the sample, and of the frame.
  int64_t computed, channels;
  const float* sample;
  float* frame;
  const std::vector<MixRun>& runs;
  // Of all terms of the sample, and which of them is the first of a channel:
  // starts[channel * step].
  const float* factors;
  const int64_t* starts;
  int64_t step;
  // (channels); null: nothing is added.
  const float* bias;
  bool relu;
};

void mix_frame(const FrameMix& job);

} // namespace mmskip
