"""Makes data-samples/: photographs sorted by camera site, and bursts, a video and odd pictures cut from them.

usage: python scripts/make_data_samples.py PHOTOGRAPHS [OUT]        (needs Pillow and ffmpeg)

PHOTOGRAPHS holds the 19 photographs, their LICENSES.md and README.gcompris_*, in any folders below it, so that
data-samples itself will do. OUT is data-samples if not given. The photographs are copied byte by byte.
"""

import random
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from synthetic_media import exif_block, find, jpeg, video

# Camera sites and the photographs that lie there.
SITES = {
    "arctic-coast": ["narwhal.jpg", "polar_bear.jpg"],
    "boreal-forest": ["moose.jpg", "owl.jpg"],
    "bush-track": ["kangaroo.jpg"],
    "farmyard": ["cat.jpg", "chicken.jpg", "cow.jpg", "dog.jpg", "duck.jpg", "pig.jpg"],
    "forest-trail": ["jaguar.jpg"],
    "garden": ["chameleon.jpg", "hedgehog.jpg"],
    "island-gully": ["komodo_dragon.jpg"],
    "prairie": ["bison.jpg", "horse.jpg"],
    "river-bank": ["crocodile.jpg"],
    "savanna-waterhole": ["giraffe.jpg"],
}


def clock(text, hours):
    """A camera's time and its hours east of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=timezone(timedelta(hours=hours)))


# A frame is (gap to the frame before in seconds, left, top, width of its window in the photograph, what spoils it).
# A window has the photograph's shape; what spoils it is a word, or the camera's shake in pixels.
BURSTS = [
    {
        "folder": "forest-trail/burst-jaguar",
        "photograph": "jaguar.jpg",
        "serial": "SYNTHETIC-0001",
        "start": clock("2026-06-14 05:41:07.200", -4),
        "frames": [
            (0.0, 0, 150, 600, None),
            (0.8, 70, 140, 690, (24, 5)),
            (1.5, 150, 120, 760, "dark"),
            (4.0, 140, 160, 740, "behind grass"),
            (12.25, 330, 90, 660, None),
            (3.0, 30, 10, 960, None),
        ],
    },
    {
        "folder": "prairie/burst-bison",
        "photograph": "bison.jpg",
        "serial": "SYNTHETIC-0002",
        "start": clock("2026-06-02 18:22:51.350", -6),
        "frames": [
            (0.0, 0, 40, 900, None),
            (0.4, 40, 44, 880, (28, 4)),
            (0.4, 84, 50, 860, None),
            (20.5, 180, 60, 760, "dark"),
            (0.4, 150, 60, 580, None),
        ],
    },
]


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    source, out = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else "data-samples")
    found = {name: find(source, name) for names in SITES.values() for name in names}
    papers = [find(source, f"README.gcompris_explore_{part}_animals") for part in ("farm", "world")]
    licences = read_licences(find(source, "LICENSES.md"), found)
    photographs = {name: path.read_bytes() for name, path in found.items()}
    pictures = {name: Image.open(path).convert("RGB") for name, path in found.items()}

    places = {name: f"{site}/{name}" for site, names in SITES.items() for name in names}
    for name, place in places.items():
        write(out / place, photographs[name])
    for paper in papers:
        write(out / paper.name, paper.read_bytes())
    derived = []
    for burst in BURSTS:
        derived += make_burst(out, pictures[burst["photograph"]], burst)
    derived += make_odd_ones(out, pictures)
    derived.append(make_video(out, pictures["horse.jpg"]))
    write(out / "LICENSES.md", licence_page(licences, places, derived).encode())


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def make_burst(out, photograph, burst):
    derived, taken = [], burst["start"]
    for number, (gap, left, top, width, spoilt) in enumerate(burst["frames"], start=1):
        taken += timedelta(seconds=gap)
        height = width * photograph.height / photograph.width
        window = (left, top, left + width, top + height)
        if isinstance(spoilt, tuple):
            frame = shaken(photograph, window, spoilt)
        else:
            frame = cut(photograph, window, photograph.size)
        if spoilt == "dark":
            frame = dark(frame, seed=number)
        if spoilt == "behind grass":
            frame = behind_grass(frame, seed=number)
        place = f"{burst['folder']}/frame-{number}.jpg"
        about = f"synthetic frame cut from {burst['photograph']}"
        write(out / place, jpeg(frame, exif=exif_block(about, taken, burst["serial"])))
        how = f"window of {width} pixels' width, enlarged"
        if spoilt:
            how += f", {'shaken' if isinstance(spoilt, tuple) else spoilt}"
        how += "; time and camera invented"
        derived.append((place, burst["photograph"], how))
    return derived


def cut(photograph, window, size):
    return photograph.resize(size, Image.Resampling.LANCZOS, box=window)


def shaken(photograph, window, shake, steps=15):
    """The mean of what the camera sees on a straight way of `shake` pixels."""
    mean = None
    for step in range(steps):
        x, y = (distance * step / (steps - 1) for distance in shake)
        seen = cut(photograph, (window[0] + x, window[1] + y, window[2] + x, window[3] + y), photograph.size)
        mean = seen if mean is None else Image.blend(mean, seen, 1 / (step + 1))
    return mean


def dark(frame, seed):
    """A quarter of the light, with the noise that a sensor adds then."""
    noise = Image.frombytes("RGB", frame.size, random.Random(seed).randbytes(frame.width * frame.height * 3))
    return ImageChops.add(frame.point(lambda v: v // 4), noise.point(lambda v: v // 16), offset=-7)


def behind_grass(frame, seed):
    """Blades of grass close to the lens, out of focus, across the middle of the frame."""
    rng = random.Random(seed)
    layer = Image.new("RGBA", frame.size, (40, 62, 22, 0))
    draw = ImageDraw.Draw(layer)
    for _ in range(16):
        foot, tip, half = rng.uniform(0.1, 0.8), rng.uniform(-0.12, 0.12), rng.uniform(8, 20)
        x, top = foot * frame.width, rng.uniform(0.15, 0.5) * frame.height
        colour = (rng.randint(30, 70), rng.randint(60, 100), rng.randint(15, 40), 255)
        draw.polygon([(x - half, frame.height), (x + half, frame.height), (x + tip * frame.width, top)], fill=colour)
    layer = layer.filter(ImageFilter.GaussianBlur(5))
    return Image.alpha_composite(frame.convert("RGBA"), layer).convert("RGB")


def make_odd_ones(out, pictures):
    """A camera that hangs sideways, one that lost its clock, and a picture without an animal."""
    sideways = pictures["kangaroo.jpg"].transpose(Image.Transpose.ROTATE_90)
    taken = clock("2026-06-09 07:15:30.500", 10)
    about = exif_block("synthetic, from kangaroo.jpg", taken, "SYNTHETIC-0003", orientation=6)
    write(out / "bush-track/kangaroo-sideways.jpg", jpeg(sideways, exif=about))

    about = exif_block("synthetic, from moose.jpg", datetime(1999, 1, 1, 0, 3, 12), "SYNTHETIC-0004")
    write(out / "boreal-forest/moose-wrong-clock.jpg", jpeg(pictures["moose.jpg"], exif=about))

    blank = cut(pictures["giraffe.jpg"], (0, 330, 430, 652.5), (1024, 768))
    about = exif_block("synthetic, cut from giraffe.jpg", clock("2026-06-11 13:02:44", 2), "SYNTHETIC-0005")
    write(out / "savanna-waterhole/blank.jpg", jpeg(blank, exif=about))
    invented = "time and camera invented"
    return [
        ("bush-track/kangaroo-sideways.jpg", "kangaroo.jpg", f"pixels turned, EXIF orientation 6; {invented}"),
        ("boreal-forest/moose-wrong-clock.jpg", "moose.jpg", f"EXIF time in 1999 without an offset; {invented}"),
        ("savanna-waterhole/blank.jpg", "giraffe.jpg", f"background left of the giraffes, enlarged; {invented}"),
    ]


def make_video(out, photograph, rate=15, seconds=6):
    """A slow pan to the right that starts and ends gently."""
    width, height, way = 760, 570, photograph.width - 760
    frames = []
    for number in range(rate * seconds):
        share = number / (rate * seconds - 1)
        x = way * share * share * (3 - 2 * share)
        frames.append(cut(photograph, (x, 80, x + width, 80 + height), (640, 480)))
    place = "prairie/horses.mp4"
    (out / place).parent.mkdir(parents=True, exist_ok=True)
    video(frames, rate, out / place, datetime(2026, 6, 2, 16, 5, 0))
    return place, "horse.jpg", f"a pan over it, {seconds} s; creation time invented"


def read_licences(path, wanted):
    """The table's cells for each photograph: source, licence, author, origin."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        name = PurePosixPath(cells[0]).name
        if name in wanted and len(cells) == 5:
            rows[name] = cells[1:]
    missing = sorted(set(wanted) - set(rows))
    if missing:
        sys.exit(f"{path}: no row for {', '.join(missing)}")
    return rows


def licence_page(licences, places, derived):
    lines = [
        "# Sources and licences",
        "",
        "Photographs taken from Debian's gcompris-qt-data 3.1-2 (rcc/explore_world_animals.rcc and explore_farm_animals.rcc),",
        "re-encoded from WebP to JPEG at quality 92. README.gcompris_* beside this file are the package's own statements of",
        "each file's licence.",
        "",
        "| file | source | licence | author | origin |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {place} | {' | '.join(licences[name])} |" for name, place in sorted(places.items(), key=lambda p: p[1])]
    lines += [
        "",
        "## Derived files",
        "",
        "Made from the photographs above by scripts/make_data_samples.py. They have the licence, or the public domain, of the",
        "photograph that they come from; nothing is claimed for the change. Their EXIF times and cameras are invented.",
        "",
        "| file | derived from | licence | author of the photograph | how |",
        "|---|---|---|---|---|",
    ]
    for place, name, how in derived:
        _, licence, author, _ = licences[name]
        lines.append(f"| {place} | {places[name]} | {licence} | {author} | {how} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
