// The source of the kernels. Each file that includes it defines
//   MMSKIP_BYTES   bytes of a vector register
//   MMSKIP_PIXELS  outputs in a register tile, two vectors each
//   MMSKIP_TABLE   name of the table of kernels to define
//   MMSKIP_NAME    what people call it
//   MMSKIP_HALVES, MMSKIP_ONLY_BYTES, MMSKIP_LOW  for a table of the kernels
//                  for bfloat16 alone, for bytes alone, or for these two
//   MMSKIP_VNNI    if the CPU adds four products of bytes at once
// and is compiled with the flags of its instruction set. Nothing here may
// be visible to other files, and nothing of the standard library be used: the
// linker would keep one copy of an inline function, for any instruction set.
#include "accumulate_impl.h"
#include "activation_impl.h"
#include "clip_impl.h"
#include "clips_last_impl.h"
#include "convolve_impl.h"
#include "depthwise_impl.h"
#include "pool_impl.h"
#include "residual_impl.h"
#include "sum_impl.h"
#include "threshold_impl.h"
#include "support_impl.h"

#define MMSKIP_IMAGES                                                       \
  {MMSKIP_NAME, compare_rows, sum_row_steps, follow_rows, sum_changed_rows, \
   add_rows, pool_rows, convolve_outputs}
#define MMSKIP_BYTE_IMAGES \
  {MMSKIP_NAME, compare_rows, sum_row_steps, round_values, convolve_outputs}

namespace mmskip {

#if defined(MMSKIP_HALVES)

extern const ImageKernels<BFloat16> MMSKIP_TABLE;
const ImageKernels<BFloat16> MMSKIP_TABLE = MMSKIP_IMAGES;

#elif defined(MMSKIP_ONLY_BYTES)

extern const ByteKernels MMSKIP_TABLE;
const ByteKernels MMSKIP_TABLE = MMSKIP_BYTE_IMAGES;

#elif defined(MMSKIP_LOW)

extern const LowKernels MMSKIP_TABLE;
const LowKernels MMSKIP_TABLE = {MMSKIP_IMAGES, MMSKIP_BYTE_IMAGES};

#else

extern const Kernels MMSKIP_TABLE;
const Kernels MMSKIP_TABLE = {
    MMSKIP_IMAGES,
    MMSKIP_IMAGES,
    MMSKIP_BYTE_IMAGES,
    accumulate_outputs,
    depthwise_outputs,
    support_sum_rows,
    threshold_rows,
    pool_clip_channels,
    sum_some_planes,
    pool_last_frame,
    mix_last_run,
};

#endif

} // namespace mmskip
