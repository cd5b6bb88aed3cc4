#define MMSKIP_BYTES 64
#define MMSKIP_PIXELS 12
#define MMSKIP_TABLE kAMX
#define MMSKIP_NAME "amx"
#define MMSKIP_TILES
#define MMSKIP_LOW
#define MMSKIP_VNNI
#include "kernels_impl.h"
