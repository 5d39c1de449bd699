/* Care for reviewers in the Curate tab: the notice before a sensitive project, how pictures are shown, breaks, and the
   end of the day. What is allowed is the server's word, with each answer; this only shows it. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const SIGN = 20_000; // milliseconds between two words to the server that somebody is there
  const SIGNS = ['pointerdown', 'pointermove', 'keydown', 'wheel'];
  const text = (value) => String(value).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const count = (number, noun) => `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;
  const UNHEARD = 'The server does not answer. Try again in a moment.';

  class Care {
    constructor(curation) {
      this.curation = curation;
      this.at = curation.at;
      this.open = true; // whether pairs may be shown
      this.sight = '';
      this.told = -Infinity;
      this.onSign = () => this.sign();
      for (const what of SIGNS) document.addEventListener(what, this.onSign, { capture: true, passive: true });
      const form = this.at('notice-form');
      if (form) this.listenTo(form, () => this.agree());
      this.listenTo(this.at('care-form'), () => this.save());
      this.listenTo(this.at('rules-form'), () => this.rule());
      this.at('care-days').addEventListener('click', (event) => {
        const { more } = event.target.dataset;
        if (more) this.guarded(() => this.more(more));
      });
      this.at('break').addEventListener('cancel', (event) => {
        event.preventDefault();
        this.rested(false);
      });
    }

    listenTo(form, act) {
      form.addEventListener('submit', (event) => {
        event.preventDefault();
        this.guarded(act);
      });
    }

    guarded(act) {
      return act().catch((error) => (this.at('care-said').textContent = error.told ? error.message : UNHEARD));
    }

    async ask(path = '', body = null) {
      const options = body && {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ reviewer: this.curation.reviewer(), ...body }),
      };
      const asked = new URLSearchParams({ reviewer: this.curation.reviewer() });
      const response = await fetch(`studio/care/${this.curation.project}${path}?${asked}`, options || {});
      const answer = await response.json();
      if (!response.ok) throw Object.assign(new Error(answer.error), { told: true });
      return answer;
    }

    /* -- the server's word -------------------------------------------------------------------------------------------- */

    /* Show what it says; returns whether pairs may be shown. */
    heard(state) {
      const { curation } = this;
      const before = { open: this.open, sight: this.sight };
      this.state = state;
      this.open = state.agreed && !state.ended;
      this.sight = state.sight;
      curation.root.dataset.small = state.settings.small;
      curation.root.dataset.reveal = state.settings.reveal;
      this.reveals(state.settings.reveal);
      this.show();
      if (before.open !== this.open) {
        if (this.open) curation.start();
        else curation.clear();
      } else if (this.open && before.sight && before.sight !== this.sight) curation.withdrawn('').catch(() => {});
      if (this.open && state.break.due) this.remind();
      return this.open;
    }

    reveals(how) {
      const { stage } = this.curation;
      if (stage.reveals === how) return;
      stage.conceal();
      stage.reveals = how;
      stage.again();
    }

    /* Whether the decisions on their way may end the day, so that no further pair is shown before they are answered. */
    atTheEnd() {
      const { left } = this.state;
      return left !== null && left <= studio.outbox.letters.length;
    }

    show() {
      const { agreed, ended } = this.state;
      const notice = this.at('notice');
      const wasHidden = { notice: notice && notice.hidden, ended: this.at('ended').hidden };
      this.curation.root.classList.toggle('is-closed', !this.open);
      if (notice) notice.hidden = agreed;
      this.at('ended').hidden = !agreed || !ended;
      this.at('ended-words').textContent = ended;
      if (!agreed && wasHidden.notice) {
        const name = this.curation.reviewer();
        this.at('notice-name').value = name === 'you' ? '' : name;
        this.at('notice-name').readOnly = Boolean(window.duoStudio.signedIn);
        this.focus('cur-notice-title');
      } else if (agreed && ended && wasHidden.ended) this.focus('cur-ended-title');
    }

    focus(id) {
      if (this.curation.visible()) this.curation.root.querySelector(`#${id}`).focus({ preventScroll: true });
    }

    /* -- the notice --------------------------------------------------------------------------------------------------- */

    async agree() {
      const name = this.at('notice-name').value.trim();
      const said = this.at('notice-wrong');
      said.textContent = '';
      if (!name) {
        said.textContent = 'Write your name first.';
        return;
      }
      try {
        const answer = await this.ask('/agree', { reviewer: name, version: this.at('notice').dataset.version });
        this.at('reviewer').value = name;
        localStorage.setItem('duo-curate-reviewer', name);
        this.heard(answer.care);
      } catch (error) {
        said.textContent = error.told ? error.message : UNHEARD;
      }
    }

    /* Nothing is stored of it. */
    decline() {
      studio.openTab('Compare');
    }

    /* -- settings ------------------------------------------------------------------------------------------------------ */

    async look() {
      this.at('care-said').textContent = '';
      if (!this.at('care').open) this.at('care').showModal();
      await this.guarded(async () => this.fill(await this.ask()));
    }

    fill({ care, owner, rules, days }) {
      this.at('care-name').textContent = this.curation.reviewer();
      const form = this.at('care-form');
      for (const [name, value] of Object.entries(care.settings)) {
        const field = form.elements[name];
        if (field.type === 'checkbox') field.checked = value;
        else field.value = value;
      }
      for (const [name, limit] of [['day_minutes', care.limits.minutes], ['day_pairs', care.limits.pairs]]) {
        if (limit) form.elements[name].max = limit;
      }
      const limits = [
        care.limits.minutes && `${care.limits.minutes} minutes`,
        care.limits.pairs && count(care.limits.pairs, 'pair'),
      ].filter(Boolean);
      this.at('care-today').textContent =
        `Today in this project: ${count(care.today.minutes, 'minute')}, ${count(care.today.pairs, 'pair')}. ` +
        (limits.length ? `The project's limit a day: ${limits.join(' or ')}.` : 'The project sets no limit a day.');
      this.at('rules-form').hidden = !owner;
      if (owner) this.fillRules(rules, days);
    }

    fillRules(rules, days) {
      const form = this.at('rules-form');
      for (const [name, value] of Object.entries(rules)) form.elements[name].value = value;
      const row = ({ reviewer, minutes, pairs, ended }) =>
        `<li><b>${text(reviewer)}</b> ${count(minutes, 'minute')}, ${count(pairs, 'pair')}` +
        (ended
          ? `, at the limit <button type="button" data-more="${text(reviewer)}" ` +
            `aria-label="Let ${text(reviewer)} go on today">Let go on</button>`
          : '') +
        '</li>';
      this.at('care-days').innerHTML = days.map(row).join('') || '<li>Nobody has looked yet.</li>';
    }

    async save() {
      const { elements } = this.at('care-form');
      const body = {};
      for (const name of ['blur', 'reveal']) body[name] = elements[name].value;
      for (const name of ['grey', 'small']) body[name] = elements[name].checked;
      for (const name of ['break_minutes', 'day_minutes', 'day_pairs']) body[name] = Number(elements[name].value);
      const { care } = await this.ask('/settings', body);
      this.at('care').close();
      this.heard(care);
      this.curation.say('Saved under your name.');
    }

    async rule() {
      const { elements } = this.at('rules-form');
      const body = {
        notice: elements.notice.value,
        day_minutes: Number(elements.day_minutes.value),
        day_pairs: Number(elements.day_pairs.value),
      };
      this.fill(await this.ask('/rules', body));
      this.at('care-said').textContent = 'Saved for everybody.';
      await this.curation.poll();
    }

    async more(reviewer) {
      this.fill(await this.ask('/more', { reviewer }));
      this.at('care-said').textContent = `${reviewer} may go on.`;
      await this.curation.poll();
    }

    /* -- time ---------------------------------------------------------------------------------------------------------- */

    /* Somebody is there; the server counts from one word to the next. */
    sign() {
      const now = performance.now();
      const bar = document.querySelector('#duo-views');
      if (!this.open || !this.state || this.resting || now - this.told < SIGN || !bar || !bar.offsetParent) return;
      this.told = now;
      this.ask('/sign', {}).then(({ care }) => this.heard(care), () => this.curation.poll());
    }

    remind() {
      if (this.resting || !this.curation.root.isConnected || document.querySelector('dialog[open]')) return; // at a poll
      const { minutes, later } = this.state.break;
      if (!this.curation.visible()) {
        if (!document.querySelector('#duo-views')?.offsetParent) return; // another tab: when this one is opened again
        studio.showView('review');
      }
      this.resting = performance.now();
      this.curation.stage.conceal();
      this.curation.root.classList.add('is-resting');
      this.at('break-words').textContent = `You have been looking at pairs for ${count(Math.max(1, minutes), 'minute')}.`;
      const button = this.curation.root.querySelector('[data-do="break-later"]');
      button.hidden = !later;
      button.textContent = `In ${count(Math.max(1, Math.round(later)), 'minute')}`;
      this.at('break').showModal();
    }

    /* The break is over, or put off: its time is no part of a decision. */
    async rested(later) {
      if (!this.resting) return;
      try {
        const { care } = await this.ask('/break', { later });
        this.curation.since += performance.now() - this.resting;
        this.resting = 0;
        this.told = performance.now();
        this.at('break').close();
        this.curation.root.classList.remove('is-resting');
        if (this.curation.current) this.curation.stage.again();
        this.heard(care);
      } catch (error) {
        this.at('break-words').textContent = error.told ? error.message : UNHEARD;
      }
    }

    close() {
      for (const what of SIGNS) document.removeEventListener(what, this.onSign, { capture: true });
    }
  }

  studio.CurateCare = Care;
})();
