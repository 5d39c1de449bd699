/* Keys, buttons and fields of the Curate tab: what the visitor does, handed to the curation. Which key does what is
   known by curate-keys.js, fingers on the pictures by curate-pointer.js. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const HELD = ['flip', 'reveal'];
  const PAN = { ArrowLeft: [0.25, 0], ArrowRight: [-0.25, 0], ArrowUp: [0, 0.25], ArrowDown: [0, -0.25] };
  const TYPED = 'input:not([type="checkbox"], [type="range"]), textarea, select, [contenteditable]';
  const quiet = (promise, otherwise = () => {}) => promise.catch(otherwise);

  class Hands {
    constructor(curation) {
      this.curation = curation;
      this.root = curation.root;
      this.at = curation.at;
      this.keys = new studio.CurateKeys(this.root, (words) => (this.at('keys-said').textContent = words));
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
        view: () => this.look(),
        keys: () => (this.at('keys').open ? this.at('keys').close() : this.at('keys').showModal()),
        'close-keys': () => this.at('keys').close(),
        'reset-keys': () => this.keys.reset(),
        stop: () => curation.stops.ask(),
        'cancel-stop': () => this.at('stop').close(),
        'stop-it': () => curation.stops.send(),
        stops: () => curation.stops.open(),
        'close-stops': () => this.at('stops').close(),
        care: () => curation.care.look(),
        'close-care': () => this.at('care').close(),
        decline: () => curation.care.decline(),
        'break-over': () => curation.care.rested(false),
        'break-later': () => curation.care.rested(true),
        earlier: () => quiet(lists.turn('before')),
        later: () => quiet(lists.turn('after')),
        'more-failed': () => quiet(lists.fillFailed(true)),
        'all-again': () => curation.allAgain(),
      };
      for (const button of this.root.querySelectorAll('[data-reason]')) {
        this.actions[button.dataset.as] = () => curation.reject(button.dataset.reason);
      }
      this.name();
      this.listen();
      this.look(stage.view);
    }

    name() {
      const field = this.at('reviewer');
      field.value = localStorage.getItem('duo-curate-reviewer') || 'you';
      field.readOnly = Boolean(window.duoStudio.signedIn);
      field.addEventListener('change', () => {
        localStorage.setItem('duo-curate-reviewer', this.curation.reviewer());
        quiet(this.curation.renamed()); // who looks decides what is shown
      });
    }

    /* Another view of the same pair; without one, the next. */
    look(view) {
      const { stage } = this.curation;
      if (view) stage.look(view);
      else stage.nextView();
      for (const button of this.root.querySelectorAll('[data-view-as]')) {
        button.setAttribute('aria-pressed', button.dataset.viewAs === stage.view);
      }
    }

    listen() {
      const { root, curation } = this;
      root.addEventListener('click', (event) => this.click(event));
      root.addEventListener('change', (event) => {
        if (event.target === this.at('shows')) curation.choose({ shows: event.target.value });
        if (event.target === this.at('sort')) curation.choose({ sort: event.target.value });
      });
      const auto = this.at('auto');
      auto.checked = localStorage.getItem('duo-curate-auto') !== 'off';
      auto.addEventListener('change', () => localStorage.setItem('duo-curate-auto', auto.checked ? 'on' : 'off'));
      this.at('keys').addEventListener('close', () => this.keys.stopAsking());
      this.at('failed').addEventListener('toggle', () => quiet(curation.lists.fillFailed()));
      for (const what of HELD) {
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
      const { do: what, reason, pair, again, list, rebind, viewAs, lift } = button.dataset;
      if (reason) curation.reject(reason);
      else if (pair) curation.jump(pair);
      else if (again) curation.again(curation.known.get(again));
      else if (rebind) this.keys.ask(rebind);
      else if (viewAs) this.look(viewAs);
      else if (lift) curation.stops.lift(lift, button.parentElement.querySelector('[data-lift-reason]').value);
      else if (list) curation.choose({ shows: list, prompts: '' });
      else if (this.actions[what]) this.actions[what]();
      else if (what === 'reveal' && !event.detail && curation.stage.reveals === 'press') this.hold(what); // by a key
      if (event.detail && (reason || what) && !button.closest('dialog')) this.at('stage').focus({ preventScroll: true }); // so that Space flips
    }

    hold(what) {
      const { stage, current } = this.curation;
      if (what === 'flip') stage.flip(true);
      else if (current && !stage.hides()) this.curation.say('Nothing is blurred here.');
      else stage.pressed();
      this.tellReveal();
    }

    letGo(what) {
      if (what === 'flip') this.curation.stage.flip(false);
      else this.curation.stage.released();
    }

    /* The page is left: nothing stays clear behind the visitor's back. */
    letAllGo() {
      const { stage } = this.curation;
      stage.flip(false);
      if (stage.reveals !== 'always') stage.conceal();
      this.tellReveal();
    }

    tellReveal() {
      const { stage } = this.curation;
      const button = this.root.querySelector('[data-do="reveal"]');
      if (stage.reveals === 'press') button.setAttribute('aria-pressed', Boolean(stage.veil));
      else button.removeAttribute('aria-pressed');
    }

    down(event) {
      const { target, key } = event;
      if (this.keys.waiting && this.at('keys').open) {
        this.keys.take(event);
        event.preventDefault();
        return event.stopPropagation();
      }
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest(TYPED)) return null;
      const dialog = this.root.querySelector('dialog[open]');
      if (dialog && !(dialog === this.at('keys') && key === '?')) return null;
      const isButton = target.closest('button, a, summary') && !target.closest('[role="tab"]');
      if (key === ' ' && (isButton || target.matches('[type="checkbox"]'))) return null; // the space bar presses it
      if (target.matches('[type="range"]') && PAN[key]) return null; // arrows move it
      const action = key === '?' ? 'keys' : this.keys.action(event);
      const { stage } = this.curation;
      if (event.shiftKey && PAN[key]) stage.pan(...PAN[key]);
      else if (!action) return null;
      else if (!event.repeat) {
        if (HELD.includes(action)) this.hold(action);
        else this.actions[action]();
      }
      event.preventDefault();
      return event.stopPropagation();
    }

    up(event) {
      const action = this.keys.action(event);
      if (HELD.includes(action)) this.letGo(action);
    }
  }

  studio.CurateHands = Hands;
})();
