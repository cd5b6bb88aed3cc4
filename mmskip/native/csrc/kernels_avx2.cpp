#define MMSKIP_BYTES 32
#define MMSKIP_PIXELS 6
#define MMSKIP_TABLE kAVX2
#define MMSKIP_NAME "avx2"
#include "kernels_impl.h"
