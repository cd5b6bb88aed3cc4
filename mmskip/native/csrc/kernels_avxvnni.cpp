#define MMSKIP_BYTES 32
#define MMSKIP_PIXELS 6
#define MMSKIP_TABLE kAVXVNNI
#define MMSKIP_NAME "avx_vnni"
#define MMSKIP_ONLY_BYTES
#define MMSKIP_VNNI
#include "kernels_impl.h"
