"""How this process takes memory from the system, which with many connections decides what gRPC's buffers cost.

For each connection gRPC keeps blocks of 64 KiB to read into, for as much as twice the longest burst that it has read
there, without a bound (grpc/grpc issue 42194; in 1.85.3 still). After an upload of 0.4 MB these are three or four, and
nothing but the connection's end frees them. In the heap they are made of what others have written to and freed, so all
of it is resident: 230 MB for 1,000 sites. A block that is mapped alone takes memory only as far as it was read into.
"""

import ctypes
import platform
from typing import Final

MANY_SITES: Final = 128
READ_BLOCK_BYTES: Final = 64 << 10
_M_MMAP_THRESHOLD: Final = -3  # of glibc's malloc.h


def settle(sites: int) -> None:
    """With many sites, take each block of 64 KiB or more from the system alone, for as long as this process lives.

    What the heap has free goes first. Few sites keep the heap, which has no page faults: with them, uploads and sum of
    32 clients with 4 MB each took 0.41 s instead of 0.37 s. Does nothing where the C library is not glibc.

    Args:
        sites: how many may be connected.
    """
    if sites >= MANY_SITES and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, READ_BLOCK_BYTES)
