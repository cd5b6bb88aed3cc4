#define MMSKIP_BYTES 64
#define MMSKIP_PIXELS 12
#define MMSKIP_TABLE kAVX512VNNI
#define MMSKIP_NAME "avx512_vnni"
#define MMSKIP_ONLY_BYTES
#define MMSKIP_VNNI
#include "kernels_impl.h"
