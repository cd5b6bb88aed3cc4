#include "clips_last.h"

#include <algorithm>
#include <cmath>

#include "isa.h"

#define MMSKIP_INLINED inline __attribute__((always_inline))

namespace mmskip {
namespace {

// Registers of AVX2, or as many smaller ones.
constexpr int kEight = 8;
typedef float Eight
    __attribute__((vector_size(4 * kEight), aligned(4), may_alias));
typedef int32_t EightBits __attribute__((vector_size(4 * kEight)));

// Positions whose sum is rounded before it is added to the others.
constexpr int64_t kTogether = 64;

MMSKIP_INLINED void pool_few(
    const FramePool& job, int64_t first, int64_t count) {
  double sums = 0, changes = 0;
  for (int64_t c = first; c < first + count; ++c) {
    sums = changes = 0;
    for (int64_t p = 0; p < job.positions; ++p) {
      const float here = job.frame[p * job.channels + c];
      sums += here;
      changes += std::fabs(here - job.before[p * job.channels + c]);
    }
    job.sums[c] = static_cast<float>(sums);
    if (job.changes != nullptr) {
      job.changes[c] = static_cast<float>(changes);
    }
  }
}

template <int vectors>
MMSKIP_INLINED void pool_many(const FramePool& job, int64_t first) {
  Eight sums[vectors] = {}, changes[vectors] = {};
  for (int64_t begin = 0; begin < job.positions; begin += kTogether) {
    const int64_t end = std::min(begin + kTogether, job.positions);
    Eight some[vectors] = {}, moved[vectors] = {};
    for (int64_t p = begin; p < end; ++p) {
      const float* here = job.frame + p * job.channels + first;
      const float* before = job.before + p * job.channels + first;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        const Eight x = *reinterpret_cast<const Eight*>(here + v * kEight);
        const Eight change =
            x - *reinterpret_cast<const Eight*>(before + v * kEight);
        some[v] += x;
        moved[v] += reinterpret_cast<Eight>(
            reinterpret_cast<EightBits>(change) & INT32_C(0x7fffffff));
      }
    }
    for (int v = 0; v < vectors; ++v) {
      sums[v] += some[v];
      changes[v] += moved[v];
    }
  }
  for (int v = 0; v < vectors; ++v) {
    *reinterpret_cast<Eight*>(job.sums + first + v * kEight) = sums[v];
    if (job.changes != nullptr) {
      *reinterpret_cast<Eight*>(job.changes + first + v * kEight) = changes[v];
    }
  }
}

MMSKIP_INLINED void pool_any(const FramePool& job) {
  int64_t c = 0;
  for (; c + 4 * kEight <= job.channels; c += 4 * kEight) {
    pool_many<4>(job, c);
  }
  for (; c + kEight <= job.channels; c += kEight) {
    pool_many<1>(job, c);
  }
  pool_few(job, c, job.channels - c);
}

// Where a run reads and writes at a position.
struct RunPlace {
  const float* const* from;
  const float* factors;
  int64_t terms, length;
  const float* bias;
  float* to;
};

MMSKIP_INLINED void mix_few(
    const RunPlace& at, int64_t first, int64_t count, bool relu) {
  for (int64_t c = first; c < first + count; ++c) {
    float sum = at.bias == nullptr ? 0 : at.bias[c];
    for (int64_t k = 0; k < at.terms; ++k) {
      sum += at.from[k][c] * at.factors[k * at.length + c];
    }
    at.to[c] = relu && sum < 0 ? 0 : sum;
  }
}

template <int vectors>
MMSKIP_INLINED void mix_many(const RunPlace& at, int64_t first, bool relu) {
  Eight sums[vectors] = {};
  if (at.bias != nullptr) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sums[v] = *reinterpret_cast<const Eight*>(at.bias + first + v * kEight);
    }
  }
  for (int64_t k = 0; k < at.terms; ++k) {
    const float* from = at.from[k] + first;
    const float* factors = at.factors + k * at.length + first;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sums[v] += *reinterpret_cast<const Eight*>(from + v * kEight) *
          *reinterpret_cast<const Eight*>(factors + v * kEight);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const EightBits negative = sums[v] < 0;
    const EightBits kept = relu ? ~negative : ~EightBits{};
    *reinterpret_cast<Eight*>(at.to + first + v * kEight) =
        reinterpret_cast<Eight>(reinterpret_cast<EightBits>(sums[v]) & kept);
  }
}

MMSKIP_INLINED void mix_run(const RunPlace& at, bool relu) {
  int64_t c = 0;
  for (; c + 4 * kEight <= at.length; c += 4 * kEight) {
    mix_many<4>(at, c, relu);
  }
  for (; c + kEight <= at.length; c += kEight) {
    mix_many<1>(at, c, relu);
  }
  if (c < at.length && at.length >= kEight) {
    mix_many<1>(at, at.length - kEight, relu);
  } else {
    mix_few(at, c, at.length - c, relu);
  }
}

// By term and channel.
MMSKIP_INLINED void gather_factors(
    const FrameMix& job, const MixRun& run, float* to) {
  const int64_t terms = run.sources.size();
  for (int64_t c = 0; c < run.length; ++c) {
    const float* own = job.factors + job.starts[(run.first + c) * job.step];
    for (int64_t k = 0; k < terms; ++k) {
      to[k * run.length + c] = own[k];
    }
  }
}

MMSKIP_INLINED void mix_any(const FrameMix& job) {
  std::vector<float> factors;
  std::vector<const float*> from;
  for (int64_t begin = job.begin; begin < job.end; begin += kTogether) {
    const int64_t end = std::min(begin + kTogether, job.end);
    float* gathered = factors.data();
    for (const MixRun& run : job.runs) {
      const int64_t terms = run.sources.size();
      if (begin == job.begin) {
        const int64_t used = gathered - factors.data();
        factors.resize(used + terms * run.length);
        gathered = factors.data() + used;
        gather_factors(job, run, gathered);
      }
      from.resize(terms);
      for (int64_t k = 0; k < terms; ++k) {
        from[k] = job.sample + run.sources[k] + begin * job.computed;
      }
      RunPlace at{
          from.data(), gathered, terms, run.length,
          job.bias == nullptr ? nullptr : job.bias + run.first,
          job.frame + begin * job.channels + run.first};
      for (int64_t p = begin; p < end; ++p) {
        mix_run(at, job.relu);
        at.to += job.channels;
        for (int64_t k = 0; k < terms; ++k) {
          from[k] += job.computed;
        }
      }
      gathered += terms * run.length;
    }
  }
}

#if defined(__x86_64__)

__attribute__((target("avx2,fma"))) void pool_avx2(const FramePool& job) {
  pool_any(job);
}

__attribute__((target("avx2,fma"))) void mix_avx2(const FrameMix& job) {
  mix_any(job);
}

#endif

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

} // namespace

void pool_frame(const FramePool& job) {
#if defined(__x86_64__)
  if (&kernels() != &kPortable) {
    pool_avx2(job);
    return;
  }
#endif
  pool_any(job);
}

void mix_frame(const FrameMix& job) {
#if defined(__x86_64__)
  if (&kernels() != &kPortable) {
    mix_avx2(job);
    return;
  }
#endif
  mix_any(job);
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
