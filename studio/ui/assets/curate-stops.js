/* "Stop: this may be illegal" in the Curate tab: the question before it, what the owner must do after it, and a page
   that keeps nothing of what somebody stopped. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const text = (value) => String(value).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const DONE = { stop: 'Stopped', lift: 'Lifted', purge: 'Files deleted' };

  class Stops {
    constructor(curation) {
      this.curation = curation;
      this.at = curation.at;
      this.number = null; // how many pairs are stopped, once it is known
      this.at('stop-sure').addEventListener('change', (event) => {
        this.button('stop-it').disabled = !event.target.checked;
      });
    }

    button(name) {
      return this.curation.root.querySelector(`[data-do="${name}"]`);
    }

    /* The server's number, with each answer: another one than before means that pairs are to be forgotten. */
    async noticed(number, gone = '') {
      const before = this.number;
      this.number = number;
      this.at('stopped').hidden = !number;
      this.at('stopped-words').textContent = `${number} pair${number === 1 ? ' is' : 's are'} stopped: may be illegal.`;
      if (before === null || before === number) return;
      this.busy = true; // what else comes of this answer is done here
      try {
        await this.curation.withdrawn(gone);
      } catch {
        this.number = before; // again at the next poll
      }
      this.busy = false;
    }

    /* Pictures may lie in the browser's cache, which the server can have emptied. */
    forget() {
      return fetch(`${this.curation.base}/forget`, { cache: 'no-store' });
    }

    ask() {
      this.pair = this.curation.current;
      if (!this.pair) return;
      this.at('stop-sure').checked = false;
      this.button('stop-it').disabled = true;
      this.at('stop-reason').value = '';
      this.at('stop-wrong').textContent = '';
      this.curation.stage.conceal();
      this.at('stop').showModal();
    }

    async tell(path, body) {
      const response = await fetch(`${this.curation.base}/${path}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ id: studio.newId(), reviewer: this.curation.reviewer(), confirmed: true, ...body }),
      });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error);
      return answer;
    }

    async send() {
      const { id: pair, version } = this.pair;
      const button = this.button('stop-it');
      button.disabled = true;
      try {
        const { stopped } = await this.tell('stop', { pair, version, reason: this.at('stop-reason').value });
        this.at('stop').close();
        this.curation.say('Stopped: the pair is hidden from everyone.');
        await this.noticed(stopped, pair);
        await this.open();
      } catch (error) {
        button.disabled = !this.at('stop-sure').checked;
        this.at('stop-wrong').textContent = `Not stopped: ${error.message}`;
      }
    }

    /* What the owner must do, and the log. */
    async open() {
      this.at('stops-said').textContent = '';
      this.at('stop-rows').textContent = '…';
      if (!this.at('stops').open) this.at('stops').showModal();
      try {
        this.list(await this.curation.ask('stops'));
      } catch {
        this.at('stop-rows').textContent = 'The server does not answer. Open this again in a moment.';
      }
    }

    list({ rows, hidden, may_lift: mayLift }) {
      const standing = rows.filter((row) => row.stands || row.action === 'purge').length;
      const others = hidden - standing;
      const items = rows.map((row) => `<li>${this.row(row, mayLift)}</li>`).join('');
      this.at('stop-rows').innerHTML =
        `<ul class="cur-log">${items || '<li>Nothing yet.</li>'}</ul>` +
        (others > 0 ? `<p>${others} more hidden, since they show a picture of a stopped pair.</p>` : '') +
        (mayLift || !standing ? '' : '<p>Only the owner can lift a stop, on the machine that the studio runs on.</p>');
    }

    row(row, mayLift) {
      const why = row.reason ? `: ${text(row.reason)}` : '';
      const models = row.models.length ? ` Trained on it: ${text(row.models.join(', '))}.` : '';
      const line = `<b>${DONE[row.action]}</b> by ${text(row.by)}, ${text(row.when)}${why}. Pair <code>${text(row.pair)}</code>.`;
      if (!row.stands || !mayLift) return line + models;
      return (
        `${line}${models}<details><summary>Show it again</summary><label class="cur-field">Why it may be shown` +
        `<input data-lift-reason maxlength="500" autocomplete="off"></label>` +
        `<button type="button" data-lift="${text(row.pair)}">Lift this stop</button></details>`
      );
    }

    async lift(pair, reason) {
      try {
        if (!reason.trim()) throw new Error('say why it may be shown. The audit log keeps it.');
        const { stopped, hidden } = await this.tell('lift', { pair, reason });
        await this.noticed(stopped);
        await this.open();
        this.at('stops-said').textContent = hidden
          ? 'Lifted, but still hidden: another stopped pair shows one of its pictures.'
          : 'Lifted: everybody can see the pair again.';
      } catch (error) {
        this.at('stops-said').textContent = `Not lifted: ${error.message}`;
      }
    }
  }

  studio.CurateStops = Stops;
})();
