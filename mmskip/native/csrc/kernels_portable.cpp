#define MMSKIP_BYTES 16
#define MMSKIP_PIXELS 4
#define MMSKIP_TABLE kPortable
#define MMSKIP_NAME "portable"
#include "kernels_impl.h"
