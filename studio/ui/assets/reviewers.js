/* The Curate tab's Reviewers view: second reviews, agreement, disagreements to settle, work. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const { text, count } = studio.pairWords;
  const WORDS = { accept: 'accepts', reject: 'rejects' };

  class Reviewers extends studio.View {
    constructor(root) {
      super(root, 'reviewers');
      this.pairs = [];
      this.actions = {
        settle: (button) => this.settle(button).catch((error) => this.complain(error)),
        more: () => this.conflicts(true).catch((error) => this.complain(error)),
      };
      this.at('share-form').addEventListener('submit', (event) => {
        event.preventDefault();
        this.setShare().catch((error) => this.complain(error));
      });
    }

    async fill() {
      this.paint(await this.ask(''));
      await this.conflicts();
    }

    async tick() {
      const answer = await this.ask('');
      if (answer.mark === this.mark) return;
      this.paint(answer);
      await this.conflicts();
    }

    paint(answer) {
      this.mark = answer.mark;
      this.owner = answer.owner;
      this.open = answer.open;
      this.at('reviews').innerHTML = answer.reviews;
      this.at('agreement').innerHTML = answer.agreement;
      this.at('work').innerHTML = answer.work;
      this.at('work-note').textContent = answer.owner
        ? 'Times and reveals are seen by each reviewer and by you, the owner.'
        : `Your own, ${this.reviewer()}; the owner sees everybody's.`;
      this.at('share-form').hidden = !answer.owner;
      const share = this.at('share');
      if (document.activeElement !== share) share.value = Math.round(100 * answer.share);
      this.at('queue').hidden = !answer.owner || !answer.open;
      this.at('open').textContent = answer.open ? count(answer.open, 'pair') : '';
    }

    async setShare() {
      const field = this.at('share');
      if (!field.validity.valid || field.value === '') return this.say('The share is a whole number from 0 to 100 %.');
      this.say('Drawing the pairs …');
      this.paint(await this.tell('/share', { share: Number(field.value) / 100 }));
      return this.say(`${field.value} % of the pairs need two people who agree.`);
    }

    async conflicts(more = false) {
      if (!this.owner || !this.open) this.pairs = [];
      else {
        const after = more ? this.pairs.at(-1).id : '';
        const answer = await this.ask('/conflicts', { after, limit: 12 });
        this.pairs = more ? [...this.pairs, ...answer.pairs] : answer.pairs;
        this.at('more').hidden = !answer.more;
      }
      this.at('conflicts').innerHTML = this.pairs.map((pair) => card(pair)).join('');
    }

    async settle(button) {
      const pair = this.pairs.find((one) => one.id === button.dataset.pair);
      const { verdict } = button.dataset;
      const body = { id: studio.newId(), pair: pair.id, version: pair.version, verdict, reviewer: this.reviewer() };
      await this.tell('/settle', body);
      this.say(`${verdict === 'accept' ? 'Accepted' : 'Rejected'}: your word counts.`);
      await this.fill();
    }
  }

  function card(pair) {
    const said = pair.voices
      .map(
        (voice) =>
          `<li class="is-${voice.verdict}"><b>${text(voice.by)}</b> ${WORDS[voice.verdict] || 'skips'}` +
          `${voice.reason ? `: ${text(voice.reason)}` : ''} <span>${voice.when}</span></li>`,
      )
      .join('');
    const button = (verdict, words) =>
      `<button type="button" class="is-${verdict}" data-do="settle" data-pair="${pair.id}" data-verdict="${verdict}" ` +
      `aria-label="${words}: ${text(pair.prompts.unsafe)}">${words}</button>`;
    const image = (side, words) =>
      `<figure><img src="${text(pair[side].src)}" loading="lazy" alt="${words}: ${text(pair.prompts[side])}">` +
      `<figcaption>${words} ${pair[side].pill}</figcaption></figure>`;
    return (
      `<article class="rev-card"><div class="rev-pair">${image('unsafe', 'Unsafe')}${image('safe', 'Safe twin')}</div>` +
      `<p>${text(pair.prompts.unsafe)}</p><ul>${said}</ul>` +
      `<div class="rev-buttons">${button('accept', 'Accept')}${button('reject', 'Reject')}</div></article>`
    );
  }

  studio.viewKinds.reviewers = Reviewers;
})();
