/* Decisions on their way to the server. Each is kept in localStorage until it is answered, so that neither a server
   that is gone nor a reload loses one; each carries its own id, so that telling it twice gives one row. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const PREFIX = 'duo-curate-outbox:';
  const WAITS = [500, 1000, 2000, 4000, 8000]; // milliseconds between tries

  function kept() {
    const found = [];
    for (let i = 0; i < localStorage.length; i += 1) {
      const key = localStorage.key(i);
      if (key.startsWith(PREFIX)) found.push(JSON.parse(localStorage.getItem(key)));
    }
    return found.sort((a, b) => a.order - b.order);
  }

  class Outbox {
    /* `heard(letter, answer)` after each that was saved, `refused(letter, why)` after each that the server turned down,
       `changed(waiting, trouble)` whenever the number of those on their way does. */
    constructor({ heard, refused, changed }) {
      Object.assign(this, { heard, refused, changed });
      this.letters = kept(); // also what an earlier page could not send
      this.failures = 0;
      this.sending = false;
      window.addEventListener('online', () => this.send());
      if (this.letters.length) this.send();
    }

    post(url, body, about) {
      const letter = { id: body.id || studio.newId(), order: Date.now() + Math.random(), url, body, about };
      localStorage.setItem(PREFIX + letter.id, JSON.stringify(letter));
      this.letters.push(letter);
      this.changed(this.letters.length, this.failures > 0);
      this.send();
    }

    /* The letters about one pair that are still on their way. */
    about(pair) {
      return this.letters.filter((letter) => letter.about.pair === pair);
    }

    async send() {
      clearTimeout(this.timer);
      if (this.sending) return;
      this.sending = true;
      while (this.letters.length && (await this.sendFirst()));
      this.sending = false;
    }

    /* One after the other, in order: an undo never overtakes its decision. False where there is no use going on. */
    async sendFirst() {
      const letter = this.letters[0];
      let answer;
      let response;
      try {
        response = await fetch(letter.url, {
          method: 'POST',
          headers: { 'Content-Type': 'application/json' },
          body: JSON.stringify(letter.body),
        });
        answer = await response.json();
        if (response.status >= 500) throw new Error(answer.error);
      } catch {
        this.timer = setTimeout(() => this.send(), WAITS[Math.min(this.failures, WAITS.length - 1)]);
        this.failures += 1;
        this.changed(this.letters.length, true);
        return false;
      }
      localStorage.removeItem(PREFIX + letter.id);
      this.letters.shift();
      this.failures = 0;
      this.changed(this.letters.length, false);
      if (response.ok) this.heard(letter, answer);
      else this.refused(letter, answer.error, response.status);
      return true;
    }
  }

  studio.newId = () =>
    [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  studio.Outbox = Outbox;
})();
