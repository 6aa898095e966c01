"""How this process takes memory from the system, which with many connections decides how much of it gRPC keeps.

For each connection gRPC holds blocks of 64 KiB to read into, as many as twice the longest burst that it has read there,
without a bound (grpc/grpc issue 42194; 1.85.3 has it still). After an upload of 0.4 MB these are three or four, which
nothing frees before the connection ends. In the heap they are made of what others have freed, so that all of it is
resident: 230 MB with 1,000 sites. A block that is mapped alone takes memory only as far as it has been read into.
"""

import ctypes
import platform
from typing import Final

MANY_SITES: Final = 128
READ_BLOCK_BYTES: Final = 64 << 10
_M_MMAP_THRESHOLD: Final = -3  # of glibc's malloc.h


def settle(sites: int) -> None:
    """With many sites, take each block of 64 KiB or more from the system alone, for as long as this process lives.

    Few sites keep the heap, which has no page faults: with 32 uploads of 4 MB at once these take a tenth of the time.
    Does nothing where the C library is not glibc.

    Args:
        sites: how many may be connected.
    """
    if sites >= MANY_SITES and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, READ_BLOCK_BYTES)
