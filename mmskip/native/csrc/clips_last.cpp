#include "clips_last.h"

#include <algorithm>
#include <utility>

#include "isa.h"

namespace mmskip {
namespace {

// Positions that are mixed run by run: what they read stays in the caches.
constexpr int64_t kPositions = 64;

// True if a channel is made of the computed ones behind those of another one.
bool goes_on(
    const int64_t* before, const int64_t* here, int64_t terms,
    int64_t computed) {
  for (int64_t k = 0; k < terms; ++k) {
    if (here[k] != before[k] + 1 || here[k] % computed == 0) {
      return false;
    }
  }
  return true;
}

// By term and channel.
void gather_factors(const FrameMix& job, const MixRun& run, float* to) {
  const int64_t terms = run.sources.size();
  for (int64_t c = 0; c < run.length; ++c) {
    const float* own = job.factors + job.starts[(run.first + c) * job.step];
    for (int64_t k = 0; k < terms; ++k) {
      to[k * run.length + c] = own[k];
    }
  }
}

} // namespace

void mix_frame(const FrameMix& job) {
  std::vector<std::vector<float>> factors;
  for (const MixRun& run : job.runs) {
    factors.emplace_back(run.sources.size() * run.length);
    gather_factors(job, run, factors.back().data());
  }
  std::vector<const float*> from;
  for (int64_t begin = job.begin; begin < job.end; begin += kPositions) {
    const int64_t positions = std::min(kPositions, job.end - begin);
    for (size_t i = 0; i < job.runs.size(); ++i) {
      const MixRun& run = job.runs[i];
      from.clear();
      for (const int64_t source : run.sources) {
        from.push_back(job.sample + source + begin * job.computed);
      }
      kernels().mix_run(
          {static_cast<int64_t>(from.size()), run.length, positions,
           from.data(), job.computed, factors[i].data(),
           job.bias == nullptr ? nullptr : job.bias + run.first,
           job.frame + begin * job.channels + run.first, job.channels,
           job.relu});
    }
  }
}

std::vector<std::vector<MixRun>> list_mix_runs(
    int64_t channels,
    int64_t frames,
    const int64_t* starts,
    const int64_t* sources,
    int64_t terms,
    int64_t computed,
    int64_t positions) {
  std::vector<std::vector<MixRun>> runs(frames);
  const int64_t sums = channels * frames;
  for (int64_t t = 0; t < frames; ++t) {
    int64_t before = -1;
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t sum = c * frames + t, first = starts[sum];
      const int64_t last = sum + 1 < sums ? starts[sum + 1] : terms;
      const int64_t* own = sources + first;
      auto& list = runs[t];
      if (c > 0 &&
          last - first == static_cast<int64_t>(list.back().sources.size()) &&
          goes_on(sources + before, own, last - first, computed)) {
        ++list.back().length;
      } else {
        MixRun run{c, 1, {}};
        for (int64_t k = first; k < last; ++k) {
          const int64_t frame = sources[k] / computed;
          run.sources.push_back(
              frame * positions * computed + sources[k] % computed);
        }
        list.push_back(std::move(run));
      }
      before = first;
    }
  }
  return runs;
}

} // namespace mmskip
