/* Which key does what in the Curate tab: defaults from the frame, changes of them kept in this browser. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const KEPT = 'duo-curate-keys';
  const NAMES = {
    ' ': 'Space', arrowleft: '←', arrowright: '→', arrowup: '↑', arrowdown: '↓', pageup: 'Page up', pagedown: 'Page down',
  };
  const MOVES = ['arrowleft', 'arrowright', 'arrowup', 'arrowdown', 'home', 'end', 'pageup', 'pagedown', 'backspace', 'delete'];
  const ARIA = { ' ': 'Space', arrowleft: 'ArrowLeft', arrowright: 'ArrowRight', arrowup: 'ArrowUp', arrowdown: 'ArrowDown' };

  class Keys {
    /* `say(words)` tells what a change of keys did. */
    constructor(root, say) {
      this.root = root;
      this.say = say;
      this.defaults = JSON.parse(root.dataset.keys); // action to key, in lower case
      const own = JSON.parse(localStorage.getItem(KEPT) || '{}');
      const known = Object.entries(own).filter(([action]) => action in this.defaults);
      this.keys = { ...this.defaults, ...Object.fromEntries(known) };
      this.waiting = ''; // the action whose next key is awaited
      this.show();
    }

    /* The action of a key, or undefined; the space bar flips unless it was given to another action. */
    action(event) {
      const key = event.key.toLowerCase();
      const found = Object.keys(this.keys).find((action) => this.keys[action] === key);
      return found || (key === ' ' ? 'flip' : undefined);
    }

    name(action) {
      const key = this.keys[action];
      return NAMES[key] || (key.length === 1 ? key.toUpperCase() : key[0].toUpperCase() + key.slice(1));
    }

    /* Write each key where its action stands. */
    show() {
      for (const place of this.root.querySelectorAll('[data-key-of]')) {
        const action = place.dataset.keyOf;
        place.textContent = this.name(action);
        const button = place.closest('button');
        if (button) button.setAttribute('aria-keyshortcuts', ARIA[this.keys[action]] || this.name(action));
      }
    }

    ask(action) {
      this.stopAsking();
      this.waiting = action;
      this.root.querySelector(`[data-rebind="${action}"]`).textContent = 'Press a key';
      this.say(`Press the new key of ${this.label(action)}. Escape leaves it.`);
    }

    stopAsking() {
      if (this.waiting) this.root.querySelector(`[data-rebind="${this.waiting}"]`).textContent = 'Change';
      this.waiting = '';
    }

    label(action) {
      return this.root.querySelector(`[data-rebind="${action}"]`).dataset.label;
    }

    /* The key that was awaited; an action that had it gets the other's former one. */
    take(event) {
      const key = event.key.toLowerCase();
      if (['shift', 'control', 'alt', 'meta', 'capslock', 'altgraph', 'dead'].includes(key)) return;
      const action = this.waiting;
      if (key === 'escape') {
        this.stopAsking();
        this.say('Nothing changed.');
      } else if (key === '?' || event.ctrlKey || event.metaKey || event.altKey || !(key.length === 1 || MOVES.includes(key))) {
        this.say('That key cannot be used. Press a letter, a digit or an arrow.');
      } else {
        const other = Object.keys(this.keys).find((one) => one !== action && this.keys[one] === key);
        if (other) this.keys[other] = this.keys[action];
        this.keys[action] = key;
        this.keep();
        const swapped = other ? `, and ${this.label(other)} is now ${this.name(other)}` : '';
        this.say(`${this.label(action)} is now ${this.name(action)}${swapped}.`);
      }
    }

    reset() {
      this.keys = { ...this.defaults };
      this.keep();
      this.say('All keys are as they were at first.');
    }

    keep() {
      const own = Object.entries(this.keys).filter(([action, key]) => this.defaults[action] !== key);
      localStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(own)));
      this.stopAsking();
      this.show();
    }
  }

  studio.CurateKeys = Keys;
})();
