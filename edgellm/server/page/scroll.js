// A transcript that follows its end, until the user scrolls up, and again once they are back there.

import { iconButton } from "./dom.js";
import { t } from "./words.js";

const NEAR = 48; // pixels from the end that count as there

/** Keeps `area` at its end. */
export class Follower {
  /** @param {HTMLElement} area that scrolls */
  constructor(area) {
    this.area = area;
    this.follows = true;
    this.top = 0;
    this.button = iconButton("down", t("newest"), () => this.jump(), { class: "newest", hidden: true });
    area.addEventListener("scroll", () => this.#moved(), { passive: true });
    // A smooth scroll upwards begins with less than `#moved` can tell from growth.
    area.addEventListener("wheel", ({ deltaY }) => deltaY < 0 && this.#leave(), { passive: true });
    area.addEventListener("keydown", ({ key }) => ["ArrowUp", "PageUp", "Home"].includes(key) && this.#leave());
  }

  /** Call when the content has grown. */
  grown() {
    if (this.follows) this.area.scrollTop = this.area.scrollHeight;
    else this.button.hidden = this.#distance() < NEAR;
    this.top = this.area.scrollTop;
  }

  /** Go to the end and stay there. */
  jump() {
    this.follows = true;
    this.button.hidden = true;
    this.grown();
  }

  #distance() {
    return this.area.scrollHeight - this.area.clientHeight - this.area.scrollTop;
  }

  #leave() {
    if (this.area.scrollTop > 0) this.follows = false;
  }

  #moved() {
    const { scrollTop } = this.area;
    const distance = this.#distance();
    if (scrollTop < this.top) this.follows = distance <= 2; // at the very end, content has shrunk
    else if (distance < NEAR) this.follows = true;
    this.top = scrollTop;
    this.button.hidden = this.follows || distance < NEAR;
  }
}
