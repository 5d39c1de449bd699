/* The Prompts tab's table. What is typed belongs to the browser: a row is saved when it is left, and until it could be
   saved it is kept here, through reloads too. What the server tells never touches a row that is being edited. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const FIELDS = ['unsafe', 'safe', 'count', 'seed', 'group'];
  const FREE = ['count', 'group']; // also once pictures were made
  const NAMES = { unsafe: 'Unsafe prompt', safe: 'Safe prompt', count: 'Count', seed: 'Seed', group: 'Group' };
  const CHECK_AFTER = 350; // milliseconds without a key
  const RETRY_AFTER = 3000;
  const LOCKED = 'Pictures were made of these words and this seed, so they stay.';
  let serial = 0;

  const tidy = (text) => text.trim().replace(/\s+/g, ' ');
  const isDirty = (row) => !row.saved || FIELDS.some((field) => row[field] !== row.saved[field]);
  const isBlank = (row) => !row.id && !tidy(row.unsafe) && !tidy(row.safe);
  const newKey = () => `new-${Date.now().toString(36)}-${(serial += 1)}`;
  const sent = ({ key, id, unsafe, safe, count, seed, group }) => ({ key, id, unsafe, safe, count, seed, group });
  const newRow = (values = {}) => ({
    key: newKey(), id: '', unsafe: '', safe: '', count: '1', seed: '', group: '', made: 0, saved: null, problem: '', left: false, ...values,
  });

  class PromptTable {
    constructor(element) {
      this.root = element;
      this.at = (name) => element.querySelector(`[data-is="${name}"]`);
      this.project = '';
      this.rows = [];
      this.cuts = {};
      this.removed = []; // rows that were removed, newest last
      this.saving = Promise.resolve();
      for (const kind of ['input', 'focusin', 'focusout', 'keydown', 'click', 'paste']) {
        element.addEventListener(kind, (event) => this[kind](event));
      }
    }

    /* -- from the server ---------------------------------------------------------------------------------------- */

    take(value) {
      if (!value) return;
      const told = JSON.parse(value);
      if (told.project !== this.project) this.open(told.project);
      this.cuts = told.cuts;
      this.merge(told);
      if (this.drafts.length) this.restore();
      const warning = this.at('warning');
      warning.hidden = !told.warning;
      warning.textContent = told.warning;
    }

    open(project) {
      this.project = project;
      this.rows = [];
      this.removed = [];
      this.at('rows').textContent = '';
      this.drafts = JSON.parse(localStorage.getItem(this.shelf) || '[]');
      this.at('csv').href = `studio/prompts/${project}.csv`;
      this.at('jsonl').href = `studio/prompts/${project}.jsonl`;
      this.say('');
    }

    get shelf() {
      return `duo-prompts:${this.project}`;
    }

    /* Saved rows in the server's order, then those of this browser that have no place there yet. */
    merge({ rows, summary }) {
      const mine = new Map(this.rows.filter((row) => row.id).map((row) => [row.id, row]));
      const merged = rows.map((told) => {
        const saved = Object.fromEntries(FIELDS.map((field) => [field, told[field]]));
        const row = mine.get(told.id) || newRow({ key: told.id, id: told.id, ...saved, saved, left: true });
        mine.delete(told.id);
        if (!isDirty(row) && !this.isEdited(row)) Object.assign(row, saved, { problem: '' });
        return Object.assign(row, { saved, made: told.made });
      });
      const rest = this.rows.filter((row) => !row.id || mine.has(row.id)).filter((row) => isDirty(row) || this.isEdited(row));
      for (const row of rest) if (row.id) Object.assign(row, { id: '', saved: null }); // removed elsewhere, edited here
      this.rows = [...merged, ...rest];
      this.at('summary').textContent = summary;
      this.draw();
    }

    restore() {
      const byId = new Map(this.rows.filter((row) => row.id).map((row) => [row.id, row]));
      for (const draft of this.drafts) {
        const row = byId.get(draft.id);
        const values = Object.fromEntries(FIELDS.map((field) => [field, String(draft[field] ?? '')]));
        if (row) Object.assign(row, values, { left: true });
        else this.rows.push(newRow({ ...values, left: true }));
      }
      this.drafts = [];
      this.draw();
      this.check();
    }

    /* -- to the server ------------------------------------------------------------------------------------------ */

    async post(path, rows, removed = []) {
      const response = await fetch(`studio/prompts/${this.project}/${path}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ rows: rows.map(sent), removed }),
      });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error);
      return answer;
    }

    changed() {
      return this.rows.filter((row) => isDirty(row) && !isBlank(row));
    }

    checkSoon() {
      clearTimeout(this.checking);
      this.checking = setTimeout(() => this.check(), CHECK_AFTER);
    }

    async check() {
      const rows = this.changed();
      const before = rows.map((row) => JSON.stringify(sent(row)));
      if (!rows.length) return this.tell();
      const project = this.project;
      const { problems } = await this.post('check', rows).catch(() => ({ problems: null })); // saving will say it
      if (!problems || project !== this.project) return undefined;
      rows.forEach((row, index) => {
        if (JSON.stringify(sent(row)) === before[index]) row.problem = problems[row.key] || '';
      });
      return this.tell();
    }

    /* One request at a time, each with what has changed when its turn comes. */
    save(removed = []) {
      this.saving = this.saving.then(() => this.saveNow(removed));
      return this.saving;
    }

    async saveNow(removed) {
      clearTimeout(this.retrying);
      const rows = this.changed();
      if (!rows.length && !removed.length) return this.tell();
      const { project } = this;
      const before = new Map(rows.map((row) => [row.key, JSON.stringify(sent(row))]));
      this.say('Saving …');
      let answer;
      try {
        answer = await this.post('save', rows, removed);
      } catch (error) {
        if (project !== this.project) return undefined;
        this.say(`Not saved: ${error.message}. What you typed is kept here and tried again.`, true);
        this.retrying = setTimeout(() => this.save(removed), RETRY_AFTER);
        return undefined;
      }
      if (project !== this.project) return undefined;
      for (const row of rows) {
        const same = JSON.stringify(sent(row)) === before.get(row.key);
        const id = answer.ids[row.key];
        if (id) {
          row.id = id;
          const saved = answer.rows.find((one) => one.id === id);
          if (same && saved) for (const field of FIELDS) row[field] = saved[field];
          if (same) row.problem = '';
        } else if (same) row.problem = answer.problems[row.key] || '';
      }
      this.merge(answer);
      for (const row of this.rows) if (removed.includes(row.id)) row.problem = answer.problems[row.id] || row.problem;
      return this.tell();
    }

    /* -- what the person does ----------------------------------------------------------------------------------- */

    input({ target }) {
      const row = this.rowOf(target);
      const { field } = target.dataset;
      if (!row || !field) return;
      row[field] = target.value;
      this.keep();
      this.checkSoon();
    }

    focusin({ target }) {
      this.edited = this.rowOf(target);
    }

    focusout({ target, relatedTarget }) {
      const row = this.rowOf(target);
      if (!row || this.rowOf(relatedTarget) === row) return;
      this.edited = null;
      row.left = true;
      if (isBlank(row)) setTimeout(() => this.drop(row));
      else if (isDirty(row)) this.save();
    }

    keydown(event) {
      const { field } = event.target.dataset;
      const row = this.rowOf(event.target);
      if (!row || !field || event.isComposing || event.key !== 'Enter') return;
      event.preventDefault();
      const next = this.rows[this.rows.indexOf(row) + 1];
      if (next) this.focus(next, field);
      else if (!isBlank(row)) this.add();
    }

    click({ target }) {
      const button = target.closest('[data-do]');
      if (!button) return;
      const row = this.rowOf(button);
      if (button.dataset.do === 'add') this.add();
      else if (button.dataset.do === 'undo') this.undo();
      else if (button.dataset.do === 'remove') this.remove(row);
      else if (button.dataset.do === 'copy') this.add({ unsafe: row.unsafe, safe: row.safe, count: row.count, group: row.group });
      else if (button.dataset.do === 'none') {
        Object.assign(row, { count: '0', problem: '' });
        this.keep();
        this.draw();
        this.save();
      }
    }

    /* Cells of a spreadsheet: the first goes where the cursor is, further rows become rows. */
    paste(event) {
      const row = this.rowOf(event.target);
      const { field } = event.target.dataset;
      const text = event.clipboardData?.getData('text/plain') || '';
      if (!row || !field || event.target.readOnly || !/[\t\n]./.test(text.trim())) return;
      event.preventDefault();
      const from = FIELDS.indexOf(field);
      text.replace(/\r/g, '').trim().split('\n').forEach((line, index) => {
        const cells = line.split('\t').slice(0, FIELDS.length - from);
        const values = Object.fromEntries(cells.map((cell, at) => [FIELDS[from + at], tidy(cell)]));
        if (index === 0) Object.assign(row, values);
        else this.rows.push(newRow({ ...values, left: true }));
      });
      this.keep();
      this.draw();
      this.check();
    }

    add(values = {}) {
      const row = newRow(values);
      this.rows.push(row);
      this.draw();
      this.focus(row, 'unsafe');
      if (values.unsafe) this.checkSoon();
    }

    remove(row) {
      if (row.made) {
        row.problem = `${LOCKED} The row stays with them; set its count to 0 to make no more of it.`;
        this.tell();
        return;
      }
      const index = this.rows.indexOf(row);
      this.removed.push({ ...row });
      this.drop(row);
      const next = this.rows[Math.min(index, this.rows.length - 1)];
      if (next) next.element.querySelector('[data-do="remove"]').focus();
      else this.root.querySelector('[data-do="add"]').focus();
      if (row.id) this.save([row.id]);
    }

    undo() {
      const row = this.removed.pop();
      if (!row) return;
      this.rows.push(newRow({ ...Object.fromEntries(FIELDS.map((field) => [field, row[field]])), left: true }));
      this.draw();
      this.focus(this.rows[this.rows.length - 1], 'unsafe');
      this.save();
    }

    drop(row) {
      if (this.edited === row && isBlank(row)) return; // the cursor came back
      this.rows = this.rows.filter((one) => one !== row);
      this.keep();
      this.draw();
    }

    focus(row, field) {
      row.element.querySelector(`[data-field="${field}"]`).focus();
    }

    /* -- what is shown ------------------------------------------------------------------------------------------ */

    rowOf(element) {
      const key = element?.closest?.('.pr-row')?.dataset.key;
      return key && this.rows.find((row) => row.key === key);
    }

    isEdited(row) {
      return !!row.element && row.element.contains(document.activeElement) && !!document.activeElement.dataset.field;
    }

    /* Every change that is not saved is kept, so that a reload or a closed window loses nothing. */
    keep() {
      const drafts = this.changed().map(sent);
      if (drafts.length) localStorage.setItem(this.shelf, JSON.stringify(drafts));
      else localStorage.removeItem(this.shelf);
    }

    draw() {
      const body = this.at('rows');
      const wanted = new Set(this.rows.map((row) => row.key));
      for (const element of [...body.children]) if (!wanted.has(element.dataset.key)) element.remove();
      this.rows.forEach((row, index) => {
        if (!row.element) row.element = this.build(row);
        if (body.children[index] !== row.element) body.insertBefore(row.element, body.children[index] || null);
        this.fill(row, index + 1);
      });
      const some = this.rows.length > 0;
      this.at('table').hidden = !some;
      this.at('empty').hidden = some;
      const saved = this.rows.some((row) => row.id);
      this.at('links').hidden = !saved;
      this.at('summary').hidden = !saved;
      this.root.querySelector('[data-do="undo"]').hidden = !this.removed.length;
    }

    build(row) {
      const element = document.createElement('div');
      element.className = 'pr-row';
      element.setAttribute('role', 'row');
      element.dataset.key = row.key;
      const text = (field) => `<span role="cell" class="pr-${field}"><textarea rows="1" data-field="${field}"></textarea></span>`;
      const number = (field) =>
        `<span role="cell" class="pr-${field}"><input type="text" inputmode="numeric" autocomplete="off" data-field="${field}"></span>`;
      element.innerHTML =
        `${text('unsafe')}${text('safe')}${number('count')}${number('seed')}${text('group')}<span role="cell" class="pr-made"></span>` +
        '<span role="cell" class="pr-remove"><button type="button" data-do="remove">×</button></span>' +
        '<span role="cell" class="pr-notes"><span class="pr-problem"></span><span class="pr-cut"></span>' +
        `<span class="pr-locked">${LOCKED}</span><span class="pr-ways"><button type="button" data-do="copy">Copy into a new row</button>` +
        '<button type="button" data-do="none">Make no more of it</button></span></span>';
      element.querySelector('[data-field="seed"]').placeholder = 'next';
      return element;
    }

    fill(row, number) {
      const { element } = row;
      for (const field of FIELDS) {
        const input = element.querySelector(`[data-field="${field}"]`);
        if (input.value !== row[field]) input.value = row[field];
        input.setAttribute('aria-label', `${NAMES[field]}, row ${number}`);
        input.readOnly = row.made > 0 && !FREE.includes(field);
      }
      element.querySelector('.pr-made').textContent = row.made ? String(row.made) : '';
      element.querySelector('.pr-made').title = row.made ? `${row.made} made` : '';
      element.querySelector('[data-do="remove"]').setAttribute('aria-label', `Remove row ${number}`);
      this.mark(row);
    }

    /* What is wrong with a row, and what its text encoder does not see: beside it, and for readers of the screen. */
    mark(row) {
      const halfWritten = !row.left && (!tidy(row.unsafe) || !tidy(row.safe));
      const problem = halfWritten ? '' : row.problem;
      const cuts = ['unsafe', 'safe'].filter((field) => this.cuts[tidy(row[field])]);
      const { element } = row;
      const notes = element.querySelector('.pr-notes');
      notes.id = `notes-${row.key}`;
      element.querySelector('.pr-problem').textContent = problem;
      element.querySelector('.pr-cut').textContent = cuts
        .map((field) => `The ${field} prompt is too long for the text encoder, which does not see “${this.cuts[tidy(row[field])]}”.`)
        .join(' ');
      element.classList.toggle('is-wrong', !!problem);
      element.classList.toggle('is-cut', cuts.length > 0);
      element.classList.toggle('is-made', row.made > 0);
      element.classList.toggle('is-dirty', isDirty(row));
      for (const input of element.querySelectorAll('[data-field]')) {
        input.setAttribute('aria-invalid', String(!!problem));
        if (problem || cuts.length || row.made) input.setAttribute('aria-describedby', notes.id);
        else input.removeAttribute('aria-describedby');
      }
    }

    tell() {
      this.keep();
      this.draw();
      const wrong = this.changed().filter((row) => row.problem).length;
      const open = this.changed().length;
      if (wrong) this.say(`${wrong === 1 ? '1 row is' : `${wrong} rows are`} not saved; the reason is under ${wrong === 1 ? 'it' : 'each'}.`, true);
      else if (open) this.say('Not saved yet: a row is saved when you leave it.');
      else this.say(this.rows.length ? 'Everything is saved.' : '');
    }

    say(words, isWrong = false) {
      const status = this.at('status');
      if (status.textContent !== words) status.textContent = words;
      status.classList.toggle('is-wrong', isWrong);
    }
  }

  studio.prompts = (element) => new PromptTable(element);
})();
