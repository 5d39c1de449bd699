/* Mouse, pen and finger on the two pictures: hold to flip or reveal, drag to pan or to move the slider, and swipe.

   A finger that rests holds, one that moves swipes: right accepts, left rejects, up skips. Downwards the page scrolls. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const REST = 250; // milliseconds after which a finger that has not moved holds
  const MOVED = 12; // pixels
  const FAR = 72; // pixels from which a swipe counts
  const WORDS = { accept: 'Accept', reject: 'Reject', skip: 'Skip' };

  class Pointer {
    /* `swiped(verdict)` is told at the end of a swipe. */
    constructor(stage, swiped) {
      this.stage = stage;
      this.swiped = swiped;
      const { element } = stage;
      element.addEventListener('pointerdown', (event) => this.press(event));
      element.addEventListener('pointermove', (event) => this.move(event));
      element.addEventListener('pointerup', () => this.release(true));
      for (const end of ['pointercancel', 'lostpointercapture']) element.addEventListener(end, () => this.release(false));
      element.addEventListener('contextmenu', (event) => event.target.closest('.cur-frame') && event.preventDefault());
    }

    press(event) {
      const frame = event.target.closest('.cur-frame');
      const { stage } = this;
      if (!frame || event.button || !stage.pair || this.held) return;
      const { clientX: x, clientY: y, pointerType } = event;
      this.held = { x, y, fromX: x, fromY: y, frame, does: '' };
      frame.setPointerCapture(event.pointerId);
      const touch = pointerType === 'touch';
      if (stage.zoom > 1) this.held.does = 'pan';
      else if (stage.view === 'slider') this.held.does = 'slide';
      if (this.held.does === 'slide') this.slide(event);
      if (touch) this.timer = setTimeout(() => this.rest(), REST);
      else this.hold();
    }

    rest() {
      if (!this.held.does) this.held.does = 'hold';
      this.hold();
    }

    hold() {
      const { stage, held } = this;
      if (stage.hides() && stage.reveals !== 'always') stage.pressed();
      else if (!held.does || held.does === 'hold') stage.flip(true);
    }

    move(event) {
      const { held, stage } = this;
      if (!held) return;
      const [dx, dy] = [event.clientX - held.fromX, event.clientY - held.fromY];
      if (!held.does && event.pointerType === 'touch' && Math.hypot(dx, dy) > MOVED) {
        clearTimeout(this.timer);
        held.does = 'swipe';
      }
      if (held.does === 'swipe') this.swipe(dx, dy);
      else if (held.does === 'slide') this.slide(event);
      else if (stage.zoom > 1) {
        const side = held.frame.clientWidth;
        stage.pan((event.clientX - held.x) / side, (event.clientY - held.y) / side);
      }
      Object.assign(held, { x: event.clientX, y: event.clientY });
    }

    slide(event) {
      const { left, width } = this.held.frame.getBoundingClientRect();
      this.stage.split((event.clientX - left) / width);
    }

    swipe(dx, dy) {
      const sideways = Math.abs(dx) > Math.abs(dy);
      const verdict = sideways ? (dx > 0 ? 'accept' : 'reject') : dy < 0 ? 'skip' : '';
      const { element } = this.stage;
      this.held.verdict = Math.max(Math.abs(dx), Math.abs(dy)) >= FAR ? verdict : '';
      element.style.setProperty('--swipe', sideways ? `${dx}px, 0` : `0, ${Math.min(dy, 0)}px`);
      element.dataset.swipe = verdict;
      element.classList.toggle('is-far', Boolean(this.held.verdict));
      element.querySelector('[data-is="swipe"]').textContent = WORDS[verdict] || '';
    }

    release(counts) {
      const { held, stage } = this;
      clearTimeout(this.timer);
      if (!held) return;
      this.held = null;
      stage.flip(false);
      stage.released();
      stage.element.style.removeProperty('--swipe');
      delete stage.element.dataset.swipe;
      stage.element.classList.remove('is-far');
      if (counts && held.verdict) this.swiped(held.verdict);
    }
  }

  studio.StagePointer = Pointer;
})();
