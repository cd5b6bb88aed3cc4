#define MMSKIP_BYTES 64
#define MMSKIP_PIXELS 12
#define MMSKIP_TABLE kAVX512BF16
#define MMSKIP_NAME "avx512_bf16"
#define MMSKIP_HALVES
#include "kernels_impl.h"
