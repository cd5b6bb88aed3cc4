#include "chains.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace mmskip {
namespace {

// The steps before it that each step waits for: who wrote what it reads or
// writes, and who read what it writes.
std::vector<std::vector<int64_t>> find_needs(const std::vector<StepUse>& uses) {
  const int64_t count = uses.size();
  std::map<int64_t, int64_t> writer;
  std::map<int64_t, std::vector<int64_t>> readers;
  std::vector<std::vector<int64_t>> needs(count);
  for (int64_t i = 0; i < count; ++i) {
    for (const int64_t value : uses[i].reads) {
      if (const auto it = writer.find(value); it != writer.end()) {
        needs[i].push_back(it->second);
      }
      readers[value].push_back(i);
    }
    const int64_t target = uses[i].writes;
    if (const auto it = writer.find(target); it != writer.end()) {
      needs[i].push_back(it->second);
    }
    for (const int64_t reader : readers[target]) {
      if (reader != i) {
        needs[i].push_back(reader);
      }
    }
    readers[target].clear();
    writer[target] = i;
  }
  return needs;
}

// Marks of steps that are in no chain: taken before, and not yet possible.
constexpr int64_t kDone = -1, kLater = -2;

// The one chain that a step waits for; `chains`, a new one, if all that it
// waits for is done; kLater if it waits for more.
int64_t chain_for(
    const std::vector<int64_t>& needs,
    const std::vector<int64_t>& chain_of,
    int64_t chains) {
  int64_t chain = kDone;
  for (const int64_t need : needs) {
    const int64_t its = chain_of[need];
    if (its == kLater || (chain != kDone && its != kDone && its != chain)) {
      return kLater;
    }
    chain = its == kDone ? chain : its;
  }
  return chain == kDone ? chains : chain;
}

// Deals chains out to parts, the next dearest one to the cheapest part that
// has room: Crew gives part i of n those from i * count / n on.
void deal(
    Section& section, const std::vector<StepUse>& uses, int64_t threads) {
  const int64_t count = section.chains.size();
  const int64_t parts = std::min(threads, count);
  const auto cost_of = [&](const std::vector<int64_t>& chain) {
    return std::accumulate(
        chain.begin(), chain.end(), int64_t{0},
        [&](int64_t sum, int64_t i) { return sum + uses[i].cost; });
  };
  std::stable_sort(
      section.chains.begin(), section.chains.end(),
      [&](const auto& a, const auto& b) { return cost_of(a) > cost_of(b); });
  std::vector<int64_t> costs(parts), filled(parts);
  std::vector<std::vector<int64_t>> dealt(count);
  for (std::vector<int64_t>& chain : section.chains) {
    int64_t to = -1;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t room =
          (part + 1) * count / parts - part * count / parts - filled[part];
      if (room > 0 && (to < 0 || costs[part] < costs[to])) {
        to = part;
      }
    }
    costs[to] += cost_of(chain);
    dealt[to * count / parts + filled[to]++] = std::move(chain);
  }
  section.chains = std::move(dealt);
}

} // namespace

std::vector<Section> part_into_sections(
    int64_t first, const std::vector<StepUse>& uses, int64_t threads) {
  const std::vector<std::vector<int64_t>> needs = find_needs(uses);
  const int64_t count = uses.size();
  std::vector<Section> sections;
  std::vector<int64_t> chain_of(count, kLater);
  for (int64_t left = count; left > 0;) {
    Section section;
    for (int64_t i = 0; i < count; ++i) {
      if (chain_of[i] == kDone) {
        continue;
      }
      const int64_t chains = section.chains.size();
      const int64_t chain = chain_for(needs[i], chain_of, chains);
      if (chain == kLater) {
        continue;
      }
      if (chain == chains) {
        section.chains.emplace_back();
      }
      section.chains[chain].push_back(i);
      chain_of[i] = chain;
    }
    // What goes on from one step alone may branch again.
    if (section.chains.size() == 1) {
      section.chains[0].resize(1);
    }
    std::replace_if(
        chain_of.begin(), chain_of.end(),
        [](int64_t chain) { return chain != kDone; }, kLater);
    for (auto& chain : section.chains) {
      for (const int64_t i : chain) {
        chain_of[i] = kDone;
      }
      left -= chain.size();
    }
    deal(section, uses, threads);
    for (auto& chain : section.chains) {
      for (int64_t& i : chain) {
        i += first;
      }
    }
    sections.push_back(std::move(section));
  }
  return sections;
}

} // namespace mmskip
