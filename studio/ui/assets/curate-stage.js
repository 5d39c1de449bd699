/* The two pictures of a pair, in four views with the same place and the same zoom: side by side, one, a slider over
   both, and one beside the map of their differences. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const SIDES = ['unsafe', 'safe'];
  const VIEWS = ['side', 'one', 'slider', 'difference'];
  const ZOOMS = [1, 2, 4];
  const KEPT = 'duo-curate-view';

  class Stage {
    /* `revealed()` is told when a clear picture was really shown, `swiped(verdict)` what a finger decided. */
    constructor(element, revealed, swiped) {
      this.element = element;
      this.revealed = revealed;
      this.reveals = 'hold'; // or 'press', until the next press or pair; or 'always'
      this.zoom = 1;
      this.x = this.y = 0; // the shift, as a share of a picture's side
      this.range = element.querySelector('[data-is="split"]');
      this.range.addEventListener('input', () => this.split(this.range.value / 100));
      this.pointer = new studio.StagePointer(this, swiped);
      this.look(localStorage.getItem(KEPT));
      this.split(0.5);
    }

    /* -- what is shown ------------------------------------------------------------------------------------------------ */

    images(side) {
      return [...this.element.querySelectorAll(`img.of-${side}`)];
    }

    /* The pictures that this view needs. */
    get shown() {
      return this.view === 'difference' ? [...SIDES, 'difference'] : SIDES;
    }

    hides() {
      return this.shown.some((side) => this.pair[side].hidden);
    }

    show(pair) {
      this.conceal();
      this.pair = pair;
      this.version = pair.version;
      this.ready = false;
      this.element.classList.add('is-loading');
      this.element.classList.remove('is-broken');
      this.load('difference');
      Promise.all(SIDES.map((side) => this.load(side))).then(
        () => this.pair === pair && this.settle(true),
        () => this.pair === pair && this.settle(false),
      );
    }

    clear() {
      this.conceal();
      this.pair = null;
      this.ready = false;
      delete this.element.dataset.pair;
      this.element.querySelectorAll('img').forEach((image) => {
        image.removeAttribute('src');
        image.alt = '';
      });
    }

    async load(side) {
      const { pair, element } = this;
      const images = this.images(side);
      if (side !== 'difference') {
        await Promise.all(images.map((image) => this.fill(image, side)));
        return;
      }
      element.classList.remove('is-unlike');
      images.forEach((image) => image.removeAttribute('src'));
      if (this.view !== 'difference') return;
      try {
        await Promise.all(images.map((image) => this.fill(image, side)));
      } catch {
        if (this.pair === pair) element.classList.add('is-unlike'); // sizes differ
      }
    }

    fill(image, side) {
      const { prompts } = this.pair;
      const words = {
        unsafe: `Unsafe picture: ${prompts.unsafe}`,
        safe: `Safe twin: ${prompts.safe}`,
        difference: 'Map of where the two pictures differ',
      }[side];
      image.alt = this.pair[side].hidden ? `${words} (blurred)` : words;
      image.src = this.pair[side].src;
      return image.decode();
    }

    settle(loaded) {
      this.ready = loaded;
      this.element.classList.remove('is-loading');
      this.element.classList.toggle('is-broken', !loaded);
      for (const side of [...SIDES, 'difference']) {
        this.element.classList.toggle(`hides-${side}`, this.pair[side].hidden);
      }
      this.element.dataset.pair = this.pair.id;
      this.again();
    }

    look(view) {
      this.conceal();
      this.view = VIEWS.includes(view) ? view : 'side';
      this.element.dataset.view = this.view;
      this.range.closest('label').hidden = this.view !== 'slider';
      localStorage.setItem(KEPT, this.view);
      if (this.pair) this.load('difference').then(() => this.again());
    }

    nextView() {
      this.look(VIEWS[(VIEWS.indexOf(this.view) + 1) % VIEWS.length]);
    }

    /* -- how it is shown ---------------------------------------------------------------------------------------------- */

    flip(on) {
      this.element.classList.toggle('is-flipped', on);
    }

    /* The slider's place: left of it the unsafe picture, right of it its twin. */
    split(share) {
      const percent = 100 * Math.min(1, Math.max(0, share));
      this.element.style.setProperty('--split', `${percent}%`);
      this.range.value = percent;
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

    /* A key, button or finger for revealing went down, or up. */
    pressed() {
      if (this.veil && this.reveals === 'press') this.conceal();
      else this.reveal();
    }

    released() {
      if (this.reveals === 'hold') this.conceal();
    }

    /* Where everything is revealed at once: also this. */
    again() {
      if (this.reveals === 'always' && this.ready && this.hides()) this.reveal();
    }

    /* Ask for the clear pictures and show them until `conceal`. */
    reveal() {
      const { pair, element } = this;
      if (!pair || this.veil) return;
      const hidden = this.shown.filter((side) => pair[side].hidden);
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
      if (this.ready) this.element.classList.remove('is-broken');
    }
  }

  studio.Stage = Stage;
})();
