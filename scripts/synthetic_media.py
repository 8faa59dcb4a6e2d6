"""What make_data_samples.py and make_bad_media.py share: EXIF blocks, JPEG files and short videos.

Everything is a function of its arguments, so that a second run gives the same bytes. The committed files were made with
Pillow 13.0 and ffmpeg 5.1 (x264 164); other versions give the same pictures and other bytes.
"""

import io
import subprocess
import sys

from PIL import Image

# Numbers of EXIF tags, as EXIF 2.32 has them.
IMAGE_DESCRIPTION, MAKE, MODEL, ORIENTATION, SOFTWARE = 0x010E, 0x010F, 0x0110, 0x0112, 0x0131
EXIF_BLOCK, EXIF_VERSION = 0x8769, 0x9000
TIME, OFFSET, SUB_SECONDS, SERIAL = 0x9003, 0x9011, 0x9291, 0xA431


def find(source, name):
    """The one file of that name in any folder below `source`."""
    found = sorted(source.rglob(name))
    if len(found) != 1:
        sys.exit(f"{source}: {len(found)} files named {name} where one is needed")
    return found[0]


def exif_block(description, taken=None, serial=None, orientation=None):
    """An EXIF block that says it is synthetic; `taken` is a datetime, without a time zone for an old camera."""
    exif = Image.Exif()
    exif[IMAGE_DESCRIPTION] = description
    exif[SOFTWARE] = "Safari sample scripts"
    if orientation:
        exif[ORIENTATION] = orientation
    details = exif.get_ifd(EXIF_BLOCK)
    details[EXIF_VERSION] = b"0232"
    if serial:
        exif[MAKE] = "Safari Demo"
        exif[MODEL] = "Synthetic Trail Camera"
        details[SERIAL] = serial
    if taken:
        details[TIME] = taken.strftime("%Y:%m:%d %H:%M:%S")
        # Cameras write both or, the older ones, neither.
        if taken.tzinfo:
            offset = taken.strftime("%z")
            details[SUB_SECONDS] = f"{taken.microsecond // 1000:03}"
            details[OFFSET] = f"{offset[:3]}:{offset[3:5]}"
    return exif


def encoded(picture, kind, **options):
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(picture, quality=88, exif=None):
    """The bytes of a JPEG file."""
    options = {"exif": exif} if exif else {}
    return encoded(picture, "JPEG", quality=quality, optimize=True, **options)


def video(frames, rate, path, created):
    """Writes pictures of one size as an H.264 video; `created` is the container's creation time, in UTC."""
    width, height = frames[0].size
    command = ["ffmpeg", "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", str(rate), "-i", "-", "-c:v", "libx264", "-threads", "1", "-preset", "slow", "-crf", "27"]
    command += ["-pix_fmt", "yuv420p", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1"]
    command += ["-metadata", f"creation_time={created:%Y-%m-%dT%H:%M:%SZ}", str(path)]
    subprocess.run(command, input=b"".join(frame.tobytes() for frame in frames), check=True)
