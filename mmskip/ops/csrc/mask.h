// From statistics to the list of outputs to compute.
#pragma once

#include <cstdint>

#include "geometry.h"

namespace mmskip {

// When an output fires: not (statistic <= threshold). The statistic is, of a
// norm gate, scale * mean^(1 / order), and of a learned gate sum + bias.
struct Rule {
  float threshold;
  int order;
  // One factor for all streams, or one for each.
  const float* scale;
  bool scale_by_stream;
  // Of a learned gate; null for a norm gate.
  const float* bias;
  // (N or 1, H_out, W_out): where outputs may fire at all; null: everywhere.
  const uint8_t* region;
  bool region_by_stream;

  // Whether outputs without any change in their support fire in a stream.
  bool fires_at_rest(int64_t stream) const;
};

// Turns rows [begin, end) of the sums of scores into a mask.
void threshold_rows(
    const Geometry& geometry,
    const Rule& rule,
    const float* sums,
    uint8_t* mask,
    int64_t begin,
    int64_t end);

// Makes whole blocks of a stream's mask fire if one of their outputs does.
void grow_blocks(
    uint8_t* mask, int64_t height, int64_t width, int64_t block_size);

// An input is sent if all outputs that read it fire; `sent` is a padded map
// of one stream, 0 outside of the image.
void send_inputs(const Geometry& geometry, const uint8_t* mask, uint8_t* sent);

// The outputs of one stream that read an input that is sent.
void touched_outputs(
    const Geometry& geometry, const uint8_t* sent, uint8_t* mask);

// Appends the indices of a stream's outputs that fire; returns how many.
int64_t compact(
    const uint8_t* mask, int64_t size, int64_t first, int32_t* active);

} // namespace mmskip
