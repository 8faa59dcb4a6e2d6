"""Lets `import torch` work on the processor without 2 GB of CUDA libraries.

The torch wheel of PyPI links to CUDA's libraries (cuBLAS, cuDNN, NCCL, ...), and Python cannot import it while one of
them is missing, though a run on the processor calls none. This writes a stand-in for each missing library beside the
torch of this Python: it has the library's name and the symbols that torch asks for, and every one of them stops the
program when it is called. The processor's library, libtorch_cpu.so, is the wheel's own and stays as it is.

usage: PYTHON scripts/bench/cuda_stand_ins.py        needs gcc and binutils (Debian: build-essential)
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def closure(library):
    """Names of the libraries that `library` lacks, and paths of those that it has."""
    missing, found = set(), {str(library)}
    for line in output("ldd", str(library)).splitlines():
        name, _, place = line.strip().partition(" => ")
        if place.startswith("not found"):
            missing.add(name)
        elif place.startswith("/"):
            found.add(place.split(" ")[0])
    return missing, found


def missing_symbols(libraries):
    """Symbols that `libraries` ask for and none of them has: {symbol: version or ""}."""
    wanted, defined = {}, set()
    for library in libraries:
        for line in output("nm", "-D", "--with-symbol-versions", library).splitlines():
            kind, symbol = line.split()[-2:]
            name, _, version = symbol.partition("@")
            if kind == "U":
                wanted[name] = version
            elif kind not in "wv":
                defined.add(name)
    return {name: version for name, version in wanted.items() if name not in defined}


def version_owners(libraries):
    """Which library is to have a version of symbols: {version: library}."""
    owners, owner = {}, ""
    for library in libraries:
        for line in output("objdump", "-p", library).splitlines():
            words = line.split()
            if words[:2] == ["required", "from"]:
                owner = words[2].rstrip(":")
            elif len(words) == 4 and words[0].startswith("0x") and owner:
                owners[words[3]] = owner
            else:
                owner = ""
    return owners


def write(folder, library, symbols):
    """`symbols` is {symbol: version or ""}."""
    with tempfile.TemporaryDirectory() as scratch:
        source, script = Path(scratch) / "stand_in.c", Path(scratch) / "versions"
        source.write_text("".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in sorted(symbols)))
        versions = sorted(set(symbols.values()) - {""})
        script.write_text("".join(f"{version} {{ global: {' '.join(f'{n};' for n, v in symbols.items() if v == version)} }};\n"
                                  for version in versions))
        command = ["gcc", "-shared", "-fPIC", "-w", "-fno-builtin", "-nostdlib", f"-Wl,-soname,{library}",
                   str(source), "-o", str(folder / library)]
        subprocess.run(command + ([f"-Wl,--version-script,{script}"] if versions else []), check=True)


def main():
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("error: this Python has no torch; run scripts/setup --bench")
    torch = Path(spec.submodule_search_locations[0])
    missing, found = closure(torch / "lib" / "libtorch_python.so")
    if not missing:
        return
    # torch's libraries look here by themselves.
    folder = torch.parent / "nvidia" / "cu13" / "lib"
    folder.mkdir(parents=True, exist_ok=True)
    owners = version_owners(found)
    by_library = {library: {} for library in sorted(missing)}
    for name, version in missing_symbols(found).items():
        # A symbol without a version may be in any of them.
        owner = owners.get(version, min(missing))
        if owner in missing:
            by_library[owner][name] = version
    for library, symbols in by_library.items():
        write(folder, library, symbols)
    missing, _ = closure(torch / "lib" / "libtorch_python.so")
    if missing:
        sys.exit(f"error: torch still misses {', '.join(sorted(missing))}")


if __name__ == "__main__":
    main()
