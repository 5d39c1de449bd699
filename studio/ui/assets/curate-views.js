/* The views of the Curate tab: a bar that shows one of them, and what all but "Review" share.

   The chosen one is an attribute of the bar, which curate-views.css reads; so a frame that Gradio puts in anew stays
   shown or hidden. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const KEY = 'duo-curate-view';
  const POLL = 4000; // milliseconds

  const text = (value) => String(value).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const count = (number, noun) => `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;

  function show(name) {
    document.querySelector('.cur-views').dataset.shows = name;
    sessionStorage.setItem(KEY, name);
    for (const button of document.querySelectorAll('.cur-views button')) {
      button.setAttribute('aria-pressed', button.dataset.view === name);
    }
    for (const view of Object.values(open)) if (view.visible()) view.shown();
  }

  studio.views = (element) => {
    element.addEventListener('click', (event) => {
      const button = event.target.closest('[data-view]');
      if (button) show(button.dataset.view);
    });
    show(sessionStorage.getItem(KEY) || 'review');
  };
  studio.showView = show;

  /* One frame: its project, its places, its questions to the server. Subclasses say `shown` and `changed`. */
  class View {
    constructor(root, base) {
      this.root = root;
      this.project = root.dataset.project;
      this.base = `studio/${base}/${this.project}`;
      this.polling = setInterval(() => this.poll(), POLL);
      root.addEventListener('click', (event) => this.click(event));
    }

    at(name) {
      return this.root.querySelector(`[data-is="${name}"]`);
    }

    click(event) {
      const button = event.target.closest('[data-do]');
      if (button && this.actions[button.dataset.do]) this.actions[button.dataset.do](button);
    }

    reviewer() {
      return localStorage.getItem('duo-curate-reviewer') || 'you';
    }

    async ask(path, parameters = {}) {
      const asked = Object.entries({ reviewer: this.reviewer(), ...parameters });
      const query = new URLSearchParams(asked.filter(([, value]) => value !== '' && value !== null && value !== false));
      return this.answer(await fetch(`${this.base}${path}?${query}`));
    }

    async tell(path, body, base = this.base) {
      const headers = { 'Content-Type': 'application/json' };
      const query = new URLSearchParams({ reviewer: this.reviewer() });
      return this.answer(
        await fetch(`${base}${path}?${query}`, { method: 'POST', headers, body: JSON.stringify(body) }),
      );
    }

    async answer(response) {
      const answer = await response.json();
      if (response.status === 403 && answer.care && this.visible()) show('review'); // the notice, or the end of the day
      if (!response.ok) throw Object.assign(new Error(answer.error), { told: true });
      return answer;
    }

    say(words) {
      this.at('said').textContent = words || '\u00a0';
    }

    /* What went wrong, in the server's words, or that there were none. */
    complain(error) {
      this.say(error.told ? error.message : 'The server does not answer. Try again in a moment.');
    }

    poll() {
      if (!document.hidden && this.visible()) this.tick().catch(() => {}); // the next one tries again
    }

    async tick() {
      await this.fill();
    }

    visible() {
      return this.root.isConnected && this.root.offsetParent !== null;
    }

    shown() {
      this.fill().catch((error) => this.complain(error));
    }

    close() {
      clearInterval(this.polling);
    }
  }

  /* Opening another project puts a new frame in the place of the old one. */
  const open = {};
  studio.openView = (name, element) => {
    const root = element.querySelector('[data-project]');
    if (!root || (open[name] && open[name].root === root)) return;
    if (open[name]) open[name].close();
    open[name] = new studio.viewKinds[name](root);
    if (open[name].visible()) open[name].shown();
  };
  studio.viewKinds = {};
  studio.openViews = open;
  studio.View = View;
  studio.pairWords = { text, count };
})();
