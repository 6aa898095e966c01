import asyncio
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CODE = """
import sys
from native import warmup
assert warmup.warm() > 0
print(*(name.removeprefix("native.") for name in sys.modules if name.startswith("native.")))
"""


async def test_warm_imports_every_kernel_and_says_how_long_it_took() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CODE, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    output = (await process.communicate())[0].decode()
    assert set(output.split()) == {path.stem for path in (REPOSITORY / "native").glob("*.py")} - {"__init__"}
