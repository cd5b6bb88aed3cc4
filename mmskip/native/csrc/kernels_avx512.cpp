#define MMSKIP_BYTES 64
#define MMSKIP_PIXELS 12
#define MMSKIP_TABLE kAVX512
#define MMSKIP_NAME "avx512"
#include "kernels_impl.h"
