"""Blocks that gRPC reads into are mapped alone once the roster has many sites, in a process of its own each time."""

import asyncio
import platform
import sys
from pathlib import Path

import pytest

from aggregator.service.heap import MANY_SITES

REPOSITORY = Path(__file__).parents[2]
BLOCKS = 200  # a few of which find room in the heap, where something was freed
CODE = f"""
import asyncio, ctypes, sys
from pathlib import Path
from aggregator.crypto.roster import sign_roster
from aggregator.files import replace_file
from tests.consortium import Consortium
from tests.loopback import hub

class Heap(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"  # of glibc's malloc.h
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

look = ctypes.CDLL(None).mallinfo2
look.restype = Heap

def mapped():
    before = look().hblks
    blocks = [bytes(64 << 10) for _ in range({BLOCKS})]
    return "most" if look().hblks - before > {BLOCKS // 2} else look().hblks - before

async def main(directory, at_first, later):
    async with hub(directory, at_first) as h:
        print(mapped())
        grown = Consortium.of(later)
        replace_file(directory / "roster.json", sign_roster(grown.authority, grown.roster.certificates, 2).to_bytes())
        await h.running.reload()
        print(mapped())

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


@pytest.mark.parametrize(
    ("at_first", "later", "mapped"),
    [(2, MANY_SITES - 1, "0 0"), (2, MANY_SITES, "0 most"), (MANY_SITES, 2, "most most")],
)
async def test_with_many_sites_a_read_block_is_mapped_alone(tmp_path, at_first: int, later: int, mapped: str) -> None:
    assert platform.libc_ver()[0] == "glibc", "nothing to test: the server changes glibc's settings only"
    words = [sys.executable, "-W", "error", "-c", CODE, str(tmp_path), str(at_first), str(later)]
    process = await asyncio.create_subprocess_exec(*words, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE)
    output = (await process.communicate())[0].decode()
    assert " ".join(output.split()) == mapped
