/* The two pictures of a pair: the same place and the same zoom for both, flip, pan, and hold to reveal. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const SIDES = ['unsafe', 'safe'];
  const ZOOMS = [1, 2, 4];

  class Stage {
    /* `revealed()` is told when a clear picture was really shown. */
    constructor(element, revealed) {
      this.element = element;
      this.revealed = revealed;
      this.zoom = 1;
      this.x = this.y = 0; // the shift, as a share of a picture's side
      element.addEventListener('pointerdown', (event) => this.press(event));
      element.addEventListener('pointermove', (event) => this.drag(event));
      for (const end of ['pointerup', 'pointercancel', 'lostpointercapture']) {
        element.addEventListener(end, () => this.release());
      }
      element.addEventListener('contextmenu', (event) => event.target.closest('.cur-frame') && event.preventDefault());
    }

    images(side) {
      return [...this.element.querySelectorAll(`img.of-${side}`)];
    }

    show(pair) {
      this.conceal();
      this.pair = pair;
      this.version = pair.version;
      this.ready = false;
      this.element.classList.add('is-loading');
      this.element.classList.remove('is-broken');
      const loads = SIDES.map((side) => this.load(pair, side));
      Promise.all(loads).then(
        () => this.pair === pair && this.settle(true),
        () => this.pair === pair && this.settle(false),
      );
    }

    load(pair, side) {
      const words = `${side === 'unsafe' ? 'Unsafe picture' : 'Safe twin'}: ${pair.prompts[side]}`;
      return Promise.all(
        this.images(side).map((image) => {
          image.alt = pair[side].hidden ? `${words} (blurred)` : words;
          image.src = pair[side].src;
          return image.decode();
        }),
      );
    }

    settle(loaded) {
      this.ready = loaded;
      this.element.classList.remove('is-loading');
      this.element.classList.toggle('is-broken', !loaded);
      for (const side of SIDES) this.element.classList.toggle(`hides-${side}`, this.pair[side].hidden);
      this.element.dataset.pair = this.pair.id;
    }

    flip(on) {
      this.element.classList.toggle('is-flipped', on);
    }

    nextZoom() {
      this.zoom = ZOOMS[(ZOOMS.indexOf(this.zoom) + 1) % ZOOMS.length];
      this.pan(0, 0);
    }

    pan(dx, dy) {
      const most = (this.zoom - 1) / 2;
      this.x = Math.max(-most, Math.min(most, this.x + dx));
      this.y = Math.max(-most, Math.min(most, this.y + dy));
      this.element.style.setProperty('--zoom', this.zoom);
      this.element.style.setProperty('--x', `${100 * this.x}%`);
      this.element.style.setProperty('--y', `${100 * this.y}%`);
      this.element.classList.toggle('is-zoomed', this.zoom > 1);
    }

    press(event) {
      if (!event.target.closest('.cur-frame') || event.button || !this.pair) return;
      this.held = { x: event.clientX, y: event.clientY, side: event.target.closest('.cur-frame').clientWidth };
      event.target.setPointerCapture(event.pointerId);
      if (this.pair.unsafe.hidden || this.pair.safe.hidden) this.reveal();
      else if (this.zoom === 1) this.flip(true);
    }

    drag(event) {
      if (!this.held || this.zoom === 1) return;
      const { x, y, side } = this.held;
      this.pan((event.clientX - x) / side, (event.clientY - y) / side);
      this.held = { x: event.clientX, y: event.clientY, side };
    }

    release() {
      if (!this.held) return;
      this.held = null;
      this.flip(false);
      this.conceal();
    }

    /* Ask for the clear pictures and show them until `conceal`. */
    reveal() {
      const { pair, element } = this;
      if (!pair || this.veil) return;
      const hidden = SIDES.filter((side) => pair[side].hidden);
      const images = hidden.flatMap((side) => this.images(side).map((image) => [image, pair[side].src]));
      this.veil = new studio.Veil(images, {
        shown: () => {
          element.classList.add('is-revealed');
          this.revealed();
        },
        failed: () => element.classList.add('is-broken'),
      });
      this.veil.lift();
    }

    conceal() {
      if (!this.veil) return;
      this.veil.drop();
      this.veil = null;
      this.element.classList.remove('is-revealed');
    }
  }

  studio.Stage = Stage;
})();
