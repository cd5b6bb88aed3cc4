// The matrix tiles of AMX, computed by any CPU, to test what uses them.
#define MMSKIP_BYTES 16
#define MMSKIP_PIXELS 4
#define MMSKIP_TABLE kEmulatedTiles
#define MMSKIP_NAME "tiles"
#define MMSKIP_TILES_EMULATED
#define MMSKIP_LOW
#include "kernels_impl.h"
