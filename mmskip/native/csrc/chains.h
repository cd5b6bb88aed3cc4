// Steps of a plan that can be taken at the same time.
#pragma once

#include <cstdint>
#include <vector>

namespace mmskip {

// The values that a step reads, the one that it writes, and about what it
// costs.
struct StepUse {
  std::vector<int64_t> reads;
  int64_t writes;
  int64_t cost;
};

// Chains of steps, of which none reads or writes what another one writes; the
// steps of a chain are in order. The work of a cheap step is hard to share out
// among threads; a thread that has a chain to itself, such as a branch of a
// network, need not share it.
struct Section {
  std::vector<std::vector<int64_t>> chains;
};

// Parts steps [first, first + uses.size()) into sections to be taken one after
// the other. Chains of a section are in an order in which as many parts of them
// as there are threads cost about the same.
std::vector<Section> part_into_sections(
    int64_t first, const std::vector<StepUse>& uses, int64_t threads);

} // namespace mmskip
