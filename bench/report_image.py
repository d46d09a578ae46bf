"""Pictures of the top of a report page: python bench/report_image.py PAGE.html IMAGE.png [--phone-height 1600]

One at desktop width for the README and, if asked for, one as a phone shows it. Needs a Chromium on the PATH. Ends
with one JSON line.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


#: Width of the picture's window and what is added to the file's name.
PHONE = (390, "-phone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=1330)
    parser.add_argument("--phone-height", type=int, default=0, help="also IMAGE-phone.png, so high; 0: no")
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is on the PATH; install one")
    options.image.parent.mkdir(parents=True, exist_ok=True)
    pictures = [(options.image, options.width, options.height)]
    if options.phone_height:
        phone = options.image.with_stem(options.image.stem + PHONE[1])
        pictures.append((phone, PHONE[0], options.phone_height))
    for image, width, height in pictures:
        shoot(browser, options.page, image, width, height, dark=options.dark)
    print(json.dumps({"images": {str(image): image.stat().st_size for image, _, _ in pictures}}))


def shoot(browser: str, page: Path, image: Path, width: int, height: int, *, dark: bool) -> None:
    with tempfile.TemporaryDirectory() as profile:
        where = (f"--user-data-dir={profile}", f"--screenshot={image.resolve()}")
        colours = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0") if dark else ()
        size = f"--window-size={width},{height}"
        command = [browser, *FLAGS, *colours, size, *where, page.resolve().as_uri()]
        subprocess.run(command, check=True, timeout=120, capture_output=True)


if __name__ == "__main__":
    main()
