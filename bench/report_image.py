"""A picture of the top of a report page, for the README: python bench/report_image.py PAGE.html IMAGE.png

Needs a Chromium on the PATH. Ends with one JSON line.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=1330)
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is on the PATH; install one")
    options.image.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        size = f"--window-size={options.width},{options.height}"
        where = (f"--user-data-dir={profile}", f"--screenshot={options.image.resolve()}")
        command = [browser, *FLAGS, size, *where, options.page.resolve().as_uri()]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
    print(json.dumps({"image": str(options.image), "bytes": options.image.stat().st_size}))


if __name__ == "__main__":
    main()
