// From statistics to the list of outputs to compute.
#pragma once

#include <cstdint>

#include "geometry.h"
#include "kernels.h"

namespace mmskip {

// Makes whole blocks of a stream's mask fire if one of their outputs does.
void grow_blocks(
    uint8_t* mask, int64_t height, int64_t width, int64_t block_size);

// An input is transmitted if all outputs that read it fire. Rows [begin, end),
// of all streams, of a padded map that is 0 outside of the image.
void transmit_inputs(
    const Geometry& geometry,
    const uint8_t* mask,
    uint8_t* transmitted,
    int64_t begin,
    int64_t end);

// The outputs that read an input that is transmitted: rows [begin, end) of the
// mask, of all streams.
void touched_outputs(
    const Geometry& geometry,
    const uint8_t* transmitted,
    uint8_t* mask,
    int64_t begin,
    int64_t end);

// From the mask of all outputs of a transposed convolution to that of a phase.
void take_phase(const Geometry& phase, const uint8_t* mask, uint8_t* own);

// Appends the indices of a stream's outputs that fire; returns how many.
int64_t compact(
    const uint8_t* mask, int64_t size, int64_t first, int32_t* active);

} // namespace mmskip
