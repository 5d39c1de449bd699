/* The Curate tab's grid: which pairs are listed, which are chosen, keys and clicks. What happens with them is in
   grid-actions.js, how they look in grid-view.js. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const PAGE = 60;
  const BY_ITSELF = 1200; // so many are fetched by scrolling, more by a click
  const SETTLE = 350; // milliseconds after the last letter
  const TYPED = 'input, textarea, select, [contenteditable]';
  const { count } = studio.pairWords;

  class Grid extends studio.GridActions {
    constructor(root) {
      super(root, 'bulk');
      this.known = new Map(); // pairs by id, as last seen
      this.ids = [];
      this.chosen = new Map(); // versions by id
      this.everything = false; // all that match are chosen
      this.saved = `duo-grid:${this.project}`;
      this.query = JSON.parse(sessionStorage.getItem(this.saved) || '{}');
      this.actions = {
        more: () => this.more().catch((error) => this.complain(error)),
        keys: () => this.at('keys').showModal(),
        close: (button) => button.closest('dialog').close(),
        clear: () => this.choose([]),
        all: () => this.chooseAll(),
        'clear-filter': () => this.unset(/_(from|to)$/),
        'clear-triage': () => this.unset(/^(accept|reject)_|^proposal$/),
        'any-prompt': () => this.unset(/^prompts$/),
        ...this.doings(),
      };
      this.listen();
      this.paintQuery();
    }

    listen() {
      this.root.addEventListener('input', (event) => {
        if (!event.target.dataset.query) return;
        clearTimeout(this.settling);
        this.settling = setTimeout(() => this.read(), event.target.tagName === 'SELECT' ? 0 : SETTLE);
      });
      this.at('cells').addEventListener('click', (event) => {
        const cell = event.target.closest('.grd-cell');
        if (cell) this.pick(cell.dataset.pair, event.shiftKey);
      });
      this.at('cells').addEventListener('focusin', (event) => {
        const cell = event.target.closest('.grd-cell');
        if (cell) this.focus = cell.dataset.pair;
      });
      this.at('cells').addEventListener('dblclick', (event) => {
        const cell = event.target.closest('.grd-cell');
        if (cell) this.look(cell.dataset.pair);
      });
      this.scrolling = new IntersectionObserver((seen) => {
        if (seen.some((one) => one.isIntersecting) && this.ids.length < BY_ITSELF) this.actions.more();
      });
      this.scrolling.observe(this.at('more'));
      for (const button of this.root.querySelectorAll('[data-open]')) {
        button.addEventListener('click', () => this.unfold(button, button.getAttribute('aria-expanded') !== 'true'));
      }
    }

    unfold(button, open) {
      button.setAttribute('aria-expanded', open);
      this.at(button.dataset.open).hidden = !open;
    }

    close() {
      super.close();
      this.scrolling.disconnect();
    }

    /* -- the list ----------------------------------------------------------------------------------------------- */

    /* The query as the fields now say. */
    read() {
      const fields = [...this.root.querySelectorAll('[data-query]')];
      const wrong = fields.find((field) => field.type === 'number' && !field.validity.valid);
      if (wrong) return this.say(`${wrong.getAttribute('aria-label')}: ${wrong.validationMessage}`);
      const { prompts } = this.query;
      const values = fields.map((field) => [field.dataset.query, field.type === 'checkbox' ? field.checked : field.value.trim()]);
      this.query = Object.fromEntries(values.filter(([, value]) => value !== '' && value !== false));
      if (prompts) this.query.prompts = prompts;
      this.say('');
      return this.restart();
    }

    unset(names) {
      for (const name of Object.keys(this.query)) if (names.test(name)) delete this.query[name];
      this.paintQuery();
      this.restart();
    }

    /* The list of this query and no other, from another view say. */
    showOnly(query) {
      this.query = query;
      this.paintQuery();
      this.restart();
    }

    paintQuery() {
      for (const field of this.root.querySelectorAll('[data-query]')) {
        const value = this.query[field.dataset.query];
        if (field.type === 'checkbox') field.checked = Boolean(value);
        else if (field.tagName === 'SELECT' && !value) field.selectedIndex = 0;
        else field.value = value === undefined ? '' : value;
      }
      for (const [panel, names] of [['filter', /_(from|to)$/], ['triage', /^(accept|reject)_/]]) {
        const used = Object.keys(this.query).some((name) => names.test(name));
        if (used) this.unfold(this.root.querySelector(`[data-open="${panel}"]`), true);
      }
    }

    restart() {
      sessionStorage.setItem(this.saved, JSON.stringify(this.query));
      this.choose([]);
      this.fill().catch((error) => this.complain(error));
    }

    /* The first page, or as many as were shown, and the numbers. */
    async fill() {
      const { query } = this;
      const asked = JSON.stringify(query);
      const limit = Math.min(200, Math.max(PAGE, this.filled === asked ? this.ids.length : 0));
      const [page] = await Promise.all([this.ask('/pairs', { ...query, limit }), this.recount()]);
      if (asked !== JSON.stringify(this.query)) return; // another list was asked for meanwhile
      this.filled = asked;
      this.ids = this.learn(page.pairs);
      this.goesOn = page.more;
      this.paint();
      await this.listActions();
    }

    async more() {
      if (!this.goesOn || this.asking) return;
      this.asking = true;
      try {
        const asked = JSON.stringify(this.query);
        const page = await this.ask('/pairs', { ...this.query, limit: PAGE, after: this.ids.at(-1) });
        if (asked !== JSON.stringify(this.query)) return;
        const ids = this.learn(page.pairs).filter((id) => !this.ids.includes(id));
        this.ids.push(...ids);
        this.goesOn = page.more;
        studio.gridView.append(this, ids);
      } finally {
        this.asking = false;
      }
    }

    async recount() {
      this.numbers = await this.ask('/numbers', this.query);
      studio.gridView.numbers(this);
    }

    learn(pairs) {
      for (const pair of pairs) this.known.set(pair.id, pair);
      return pairs.map((pair) => pair.id);
    }

    /* Somebody may have decided meanwhile; what is chosen is not taken away under the hand. */
    async tick() {
      const before = this.numbers && this.numbers.mark;
      await this.recount();
      if (this.numbers.mark !== before && !this.chosen.size && !this.everything && this.ids.length <= 200) {
        await this.fill();
      }
    }

    paint() {
      studio.gridView.cells(this);
      if (!this.ids.includes(this.focus)) this.focus = this.ids[0];
      this.mark();
    }

    /* -- choosing ----------------------------------------------------------------------------------------------- */

    pick(id, range) {
      if (this.everything) this.choose([]);
      const ids = range && this.anchor ? this.between(this.anchor, id) : [id];
      const on = range || !this.chosen.has(id);
      for (const one of ids) {
        if (on) this.chosen.set(one, this.known.get(one).version);
        else this.chosen.delete(one);
      }
      if (!range) this.anchor = id;
      this.focus = id;
      this.mark();
    }

    between(one, other) {
      const [first, last] = [this.ids.indexOf(one), this.ids.indexOf(other)].sort((a, b) => a - b);
      return first < 0 ? [other] : this.ids.slice(first, last + 1);
    }

    choose(ids) {
      this.everything = false;
      this.chosen = new Map(ids.map((id) => [id, this.known.get(id).version]));
      this.mark();
    }

    chooseAll() {
      this.chosen = new Map();
      this.everything = this.numbers.match > 0;
      this.mark();
    }

    mark() {
      studio.gridView.mark(this);
    }

    /* -- keys --------------------------------------------------------------------------------------------------- */

    key(event) {
      const { target, key } = event;
      if (target.closest(TYPED) || document.querySelector('dialog[open]') || event.altKey) return;
      if (event.ctrlKey || event.metaKey) {
        if (key.toLowerCase() === 'a') this.pressed(event, () => this.chooseAll());
        return;
      }
      const inCells = target.closest('.grd-cells');
      const isButton = target.closest('button, a, summary') && !target.closest('[role="tab"]');
      const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns(), ArrowDown: this.columns() };
      const letters = { a: 'accept', r: 'reject', s: 'skip', u: 'undo' };
      if (steps[key] && (inCells || target === document.body)) {
        this.pressed(event, () => this.move(steps[key], event.shiftKey));
      } else if (key === ' ' && !isButton && this.focus) this.pressed(event, () => this.pick(this.focus, false));
      else if (key === 'Enter' && inCells) this.pressed(event, () => this.look(this.focus));
      else if (key === 'Escape') this.pressed(event, () => this.choose([]));
      else if (key === '?') this.pressed(event, () => this.actions.keys());
      else if (letters[key.toLowerCase()]) this.pressed(event, () => this.actions[letters[key.toLowerCase()]]());
    }

    pressed(event, act) {
      event.preventDefault();
      event.stopPropagation();
      if (!event.repeat || event.key.startsWith('Arrow')) act();
    }

    columns() {
      const cells = [...this.at('cells').children];
      const next = cells.findIndex((cell) => cell.offsetTop > cells[0].offsetTop);
      return next < 1 ? Math.max(cells.length, 1) : next;
    }

    move(step, choosing) {
      const place = this.ids.indexOf(this.focus) + step;
      if (place < 0) return;
      if (place >= this.ids.length) {
        this.actions.more();
        return;
      }
      if (choosing && !this.chosen.has(this.focus)) this.pick(this.focus, false);
      this.focus = this.ids[place];
      if (choosing) this.pick(this.focus, true);
      this.mark();
      studio.gridView.cell(this, this.focus).focus();
    }

    look(id) {
      studio.showView('review');
      studio.lookAt(id);
    }

    words(number) {
      return count(number, 'pair');
    }
  }

  studio.viewKinds.grid = Grid;
  document.addEventListener(
    'keydown',
    (event) => {
      const grid = studio.openViews.grid;
      if (grid && grid.visible()) grid.key(event);
    },
    true,
  );
})();
