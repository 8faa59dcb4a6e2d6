"""Makes e2e/assets/bad-media/: small damaged, hostile and odd files for tests of bad input, and good ones beside them.

usage: python scripts/make_bad_media.py [PHOTOGRAPHS] [OUT]        (needs Pillow and ffmpeg)

PHOTOGRAPHS is a folder with the sample photographs, data-samples if not given. What must fail is tried with Pillow and
ffprobe at the end, and so is what must be read.
"""

import random
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

from PIL import Image, ImageOps

from synthetic_media import encoded, exif_block, find, jpeg, video

# How the stored pixels of each EXIF orientation come from the upright picture.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
NOTES = "Camera 7, checked on 3 June: battery at 60 %, card nearly full, cobweb before the lens.\n" * 8


def main():
    if len(sys.argv) > 3:
        sys.exit(__doc__)
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "data-samples")
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "e2e/assets/bad-media")

    bad, good = damaged(source) | hostile(source), readable(source)
    out.mkdir(parents=True, exist_ok=True)
    for name, content in (bad | good).items():
        (out / name).write_bytes(content)
    for name in bad:
        if reads(out / name):
            sys.exit(f"{out / name}: can be read, and should not")
    for name in good:
        if not reads(out / name):
            sys.exit(f"{out / name}: cannot be read, and should")
    print(f"{len(bad)} bad and {len(good)} good files, {sum(map(len, (bad | good).values()))} bytes")


def photograph(source, name, width):
    picture = Image.open(find(source, name)).convert("RGB")
    return picture.resize((width, round(width * picture.height / picture.width)), Image.Resampling.LANCZOS)


def damaged(source):
    """Files that a failed card, a full disk or a broken transfer leave."""
    whole = jpeg(photograph(source, "cow.jpg", 500))
    small = photograph(source, "owl.jpg", 200)
    return {
        "truncated.jpg": whole[: len(whole) // 2],
        "corrupt.jpg": corrupted(jpeg(photograph(source, "pig.jpg", 240))),
        "empty.jpg": b"",
        "notes.jpg": NOTES.encode(),
        "zeros.jpg": bytes(4096),
        "cut.png": half(encoded(small, "PNG", optimize=True)),
        "cut.webp": half(encoded(small, "WEBP", quality=85)),
        "cut.tif": half(encoded(small, "TIFF", compression="tiff_adobe_deflate")),
        "broken.mp4": without_index(source),
    }


def half(content):
    return content[: len(content) // 2]


def corrupted(content):
    """Noise in the middle of the scan, and in it the start of another frame, which no decoder can step over."""
    content = bytearray(content)
    middle = (content.rindex(b"\xff\xda") + len(content)) // 2
    content[middle : middle + 64] = random.Random(1).randbytes(64)
    content[middle + 64 : middle + 70] = b"\xff\xc0\x00\x11\x08\x00"
    return bytes(content)


def without_index(source):
    """The start of a video: the camera lost power before it wrote the moov atom, which lies behind the pictures."""
    wide = photograph(source, "horse.jpg", 220)
    frames = [wide.crop((x, 10, x + 160, 130)) for x in range(0, 60, 4)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole.mp4"
        video(frames, 15, path, datetime(2026, 6, 2, 16, 5, 0))
        whole = path.read_bytes()
    return whole[: (whole.index(b"mdat") + whole.index(b"moov")) // 2]


def hostile(source):
    """Small files that state pictures of gigabytes."""
    huge = bytearray(jpeg(photograph(source, "owl.jpg", 64)))
    frame = huge.index(b"\xff\xc0")
    struct.pack_into(">HH", huge, frame + 5, 65500, 65500)
    return {
        "bomb.jpg": bytes(huge),
        # All chunks are right; the pixels end after the first rows, as the whole would take 400 kB even so.
        "bomb.png": black_png(60000, 60000, rows=16),
        # Not a row is missing: 256 million pixels in 31 kB.
        "bomb-complete.png": black_png(16000, 16000, rows=16000),
    }


def black_png(width, height, rows):
    """A PNG of one bit a pixel that states `width` x `height` and holds `rows` black rows."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + (width + 7) // 8) * rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def readable(source):
    """Files that must be read: each format, a wrong name, every orientation, times that are easily misread."""
    small = photograph(source, "owl.jpg", 200)
    files = {
        "good-small.jpg": jpeg(small),
        "good-small.png": encoded(small.quantize(64), "PNG", optimize=True),
        "good-small.webp": encoded(small, "WEBP", quality=85),
        "good-small.tif": encoded(small, "TIFF", compression="tiff_lzw"),
        "misnamed.jpg": encoded(photograph(source, "duck.jpg", 120), "PNG", optimize=True),
    }
    upright = photograph(source, "moose.jpg", 192).crop((0, 0, 192, 128))
    for number, turn in STORED.items():
        stored = upright if turn is None else upright.transpose(turn)
        about = exif_block("synthetic, from moose.jpg", orientation=number)
        files[f"orientation-{number}.jpg"] = jpeg(stored, exif=about)
        turned = ImageOps.exif_transpose(stored_with(stored, number))
        if turned.tobytes() != upright.tobytes():
            sys.exit(f"orientation {number}: not upright after turning")

    dawn = datetime(2026, 3, 5, 0, 10, 30, 125000, timezone(timedelta(hours=5, minutes=30)))
    about = exif_block("synthetic, from duck.jpg", dawn, "SYNTHETIC-0006")
    files["exif-offset.jpg"] = jpeg(photograph(source, "duck.jpg", 160), exif=about)
    about = exif_block("synthetic, from cat.jpg", datetime(1999, 1, 1, 0, 0, 12), "SYNTHETIC-0007")
    files["exif-1999.jpg"] = jpeg(photograph(source, "cat.jpg", 160), exif=about)
    return files


def stored_with(picture, orientation):
    marked = picture.copy()
    marked.getexif()[0x0112] = orientation
    return marked


def reads(path):
    if path.suffix == ".mp4":
        return subprocess.run(["ffprobe", "-v", "quiet", str(path)], check=False).returncode == 0
    try:
        with warnings.catch_warnings(action="ignore"):
            Image.open(path).load()
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return False
    return True


if __name__ == "__main__":
    main()
