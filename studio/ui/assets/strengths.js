/* One pair at several strengths: a strip of edits from one seed, one of which becomes the pair's safe twin. Opened for a
   pair from the grid, or for the one in hand by a button with data-strengths. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const POLL = 1500; // milliseconds
  const { text } = studio.pairWords;
  const LIVE = ['queued', 'running', 'stopping'];

  class Strip {
    constructor(project, pair) {
      this.base = `studio/strengths/${project}/${pair}`;
      this.dialog = document.createElement('dialog');
      this.dialog.className = 'str-dialog';
      this.dialog.setAttribute('aria-label', 'Strengths of one pair');
      this.dialog.innerHTML = FRAME;
      (document.querySelector('.gradio-container .contain') || document.body).append(this.dialog);
      this.dialog.addEventListener('close', () => this.end());
      this.dialog.addEventListener('click', (event) => {
        const button = event.target.closest('button');
        if (!button) return;
        if (button.dataset.do === 'close') this.dialog.close();
        else if (button.dataset.do === 'start') this.guarded(() => this.start());
        else if (button.dataset.edit) this.guarded(() => this.pick(button.dataset.edit));
      });
      this.dialog.showModal();
      this.guarded(() => this.look());
    }

    at(name) {
      return this.dialog.querySelector(`[data-is="${name}"]`);
    }

    guarded(act) {
      act().catch((error) => this.say(error.told ? error.message : 'The server does not answer. Try again in a moment.'));
    }

    async ask(path = '', body = null) {
      const name = localStorage.getItem('duo-curate-reviewer') || 'you';
      const options = body && {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(body),
      };
      const response = await fetch(`${this.base}${path}?${new URLSearchParams({ reviewer: name })}`, options || {});
      const answer = await response.json();
      if (!response.ok) throw Object.assign(new Error(answer.error), { told: true });
      return answer;
    }

    async look() {
      this.paint(await this.ask());
    }

    async start() {
      const strengths = this.at('strengths').value.split(/[\s,;]+/).filter(Boolean).map(Number);
      if (!strengths.length || strengths.length > 9 || strengths.some((one) => !(one > 0 && one <= 1))) {
        return this.say('Write one to nine strengths above 0 and up to 1, like 0.3, 0.5, 0.7.');
      }
      return this.paint(await this.ask('/start', { version: this.pair.version, strengths }));
    }

    async pick(edit) {
      this.paint(await this.ask('/pick', { edit }));
      this.say('Picked: the pair has this twin now and is undecided again.');
      this.picked = true;
    }

    paint(answer) {
      this.pair = answer.pair;
      const { job, edits } = answer;
      const live = job && LIVE.includes(job.state);
      if (!this.at('strengths').value) this.at('strengths').value = answer.strengths.join(', ');
      this.at('start').disabled = live;
      this.at('prompt').textContent = this.pair.prompts.safe;
      if (live) this.say(job.state === 'queued' ? 'Waiting for its turn …' : `Drawing ${job.message} … ${job.left}`);
      else if (job && job.state === 'failed') this.say(job.error);
      else if (!edits.length) this.say('Nothing tried yet: the same seed at every strength, one picture each.');
      else this.say('');
      const unsafe = `<li><img src="${text(this.pair.unsafe.src)}" alt="Unsafe picture"><b>Unsafe</b>${this.pair.unsafe.pill}</li>`;
      this.at('strip').innerHTML = unsafe + edits.map((edit) => card(edit)).join('');
      clearTimeout(this.timer);
      if (live) this.timer = setTimeout(() => this.guarded(() => this.look()), POLL);
    }

    say(words) {
      this.at('said').textContent = words || '\u00a0';
    }

    end() {
      clearTimeout(this.timer);
      this.dialog.remove();
      const { grid } = studio.openViews;
      if (this.picked && grid && grid.visible()) grid.restart();
    }
  }

  const FRAME =
    '<h3>Strengths</h3><p>How much of the unsafe picture is repainted: <q data-is="prompt"></q>, from one seed.</p>' +
    '<div class="str-ask"><label>Strengths<input data-is="strengths" autocomplete="off"></label>' +
    '<button type="button" data-do="start" data-is="start">Try them</button></div>' +
    '<p data-is="said" role="status">&nbsp;</p><ul data-is="strip"></ul>' +
    '<button type="button" data-do="close">Close</button>';

  function card(edit) {
    const name = edit.position ? `Strength ${edit.strength.toFixed(2)}` : `Before (${edit.strength.toFixed(2)})`;
    const far = edit.distance === null ? '' : `<span>distance ${edit.distance.toFixed(3)}</span>`;
    const pick = edit.now
      ? '<em>The twin now</em>'
      : `<button type="button" data-edit="${edit.id}" aria-label="Pick ${name}">Pick</button>`;
    return (
      `<li class="${edit.now ? 'is-now' : ''}"><img src="${text(edit.src)}" alt="${name}"><b>${name}</b>` +
      `${edit.pill}${far}${pick}</li>`
    );
  }

  studio.strengths = (project, pair) => pair && new Strip(project, pair);
  document.addEventListener('click', (event) => {
    const button = event.target.closest('[data-strengths]');
    if (!button) return;
    const frame = button.closest('[data-project]');
    studio.strengths(frame.dataset.project, frame.querySelector('.cur-stage').dataset.pair);
  });
})();
