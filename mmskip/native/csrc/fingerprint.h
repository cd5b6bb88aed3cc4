// A number that tells the contents of a tensor from others.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace mmskip {

// A hash of the memory of a tensor on the CPU, of each byte and its place.
// With words > 0 a larger tensor is told by so many of its words of 4 bytes,
// spread over it, which takes no time.
int64_t fingerprint(const at::Tensor& tensor, int64_t words);

} // namespace mmskip
