/* Keys, buttons and fields of the Curate tab: what the visitor does, handed to the curation. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const KEYS = {
    a: 'accept', r: 'reject', s: 'skip', d: 'redo', u: 'undo', z: 'zoom',
    '?': 'keys', arrowleft: 'back', arrowright: 'forward',
  };
  const HELD = { f: 'flip', ' ': 'flip', v: 'reveal' };
  const PAN = { ArrowLeft: [0.25, 0], ArrowRight: [-0.25, 0], ArrowUp: [0, 0.25], ArrowDown: [0, -0.25] };
  const TYPED = 'input, textarea, select, [contenteditable]';
  const quiet = (promise, otherwise = () => {}) => promise.catch(otherwise);

  class Hands {
    constructor(curation) {
      this.curation = curation;
      this.root = curation.root;
      this.at = curation.at;
      const { stage, lists } = curation;
      this.actions = {
        accept: () => curation.decide('accept'),
        reject: () => curation.decide('reject'),
        skip: () => curation.decide('skip'),
        redo: () => curation.redo(),
        undo: () => curation.undo(),
        zoom: () => stage.nextZoom(),
        back: () => quiet(curation.back(), () => curation.say('The server does not answer.')),
        forward: () => curation.next(),
        only: () => curation.only(),
        keys: () => (this.at('keys').open ? this.at('keys').close() : this.at('keys').showModal()),
        'close-keys': () => this.at('keys').close(),
        earlier: () => quiet(lists.turn('before')),
        later: () => quiet(lists.turn('after')),
        'more-failed': () => quiet(lists.fillFailed(true)),
        'all-again': () => curation.allAgain(),
      };
      this.name();
      this.listen();
    }

    name() {
      const field = this.at('reviewer');
      field.value = localStorage.getItem('duo-curate-reviewer') || 'you';
      field.addEventListener('change', () => {
        localStorage.setItem('duo-curate-reviewer', this.curation.reviewer());
        quiet(this.curation.catchUp()); // who looks decides what is shown
      });
    }

    listen() {
      const { root, curation } = this;
      root.addEventListener('click', (event) => this.click(event));
      root.addEventListener('change', (event) => {
        if (event.target === this.at('shows')) curation.choose({ shows: event.target.value });
        if (event.target === this.at('sort')) curation.choose({ sort: event.target.value });
      });
      this.at('failed').addEventListener('toggle', () => quiet(curation.lists.fillFailed()));
      for (const what of ['flip', 'reveal']) {
        const button = root.querySelector(`[data-do="${what}"]`);
        button.addEventListener('pointerdown', () => this.hold(what));
        for (const end of ['pointerup', 'pointerleave', 'pointercancel']) {
          button.addEventListener(end, () => this.letGo(what));
        }
        button.addEventListener('contextmenu', (event) => event.preventDefault());
      }
    }

    click(event) {
      const button = event.target.closest('button');
      if (!button) return;
      const { curation } = this;
      const { do: what, reason, pair, again, list } = button.dataset;
      if (reason) curation.reject(reason);
      else if (pair) curation.jump(pair);
      else if (again) curation.again(curation.known.get(again));
      else if (list) curation.choose({ shows: list, prompts: '' });
      else if (this.actions[what]) this.actions[what]();
      if (event.detail && (reason || what)) this.at('stage').focus({ preventScroll: true }); // so that Space flips
    }

    hold(what) {
      const { stage, current } = this.curation;
      if (what === 'flip') stage.flip(true);
      else if (current && !current.unsafe.hidden && !current.safe.hidden) this.curation.say('Nothing is blurred here.');
      else stage.reveal();
    }

    letGo(what) {
      if (what === 'flip') this.curation.stage.flip(false);
      else this.curation.stage.conceal();
    }

    letAllGo() {
      Object.values(HELD).forEach((what) => this.letGo(what));
    }

    down(event) {
      const { target, key } = event;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest(TYPED)) return;
      if (this.at('keys').open && key !== '?') return;
      const isButton = target.closest('button, a, summary') && !target.closest('[role="tab"]');
      if (key === ' ' && isButton) return; // the space bar presses it
      const name = key.toLowerCase();
      const reason = /^[1-5]$/.test(key) && this.root.querySelectorAll('[data-reason]')[key - 1].dataset.reason;
      const { stage } = this.curation;
      if (event.shiftKey && PAN[key] && stage.zoom > 1) stage.pan(...PAN[key]);
      else if (!HELD[name] && !KEYS[name] && !reason) return;
      else if (!event.repeat) {
        if (reason) this.curation.reject(reason);
        else if (HELD[name]) this.hold(HELD[name]);
        else this.actions[KEYS[name]]();
      }
      event.preventDefault();
      event.stopPropagation();
    }

    up(event) {
      const what = HELD[event.key.toLowerCase()];
      if (what) this.letGo(what);
    }
  }

  studio.CurateHands = Hands;
})();
