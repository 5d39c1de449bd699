/* Pictures that come blurred: clear while they are held, and downloads that are to be clear. The server sends nothing
   clear of a hidden picture but to a request with this header, see studio/ui/veils.py. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const headers = { 'X-Duo-Reveal': '1' };

  /* An address in memory of the clear picture, to be revoked after use. */
  studio.clearPicture = async (url, signal) => {
    const response = await fetch(url, { headers, cache: 'no-store', signal });
    if (!response.ok) throw new Error(await response.text());
    return URL.createObjectURL(await response.blob());
  };

  /* Images as [img, clear address] pairs, clear from `lift` to `drop`. */
  class Veil {
    constructor(images, { shown = () => {}, failed = () => {} } = {}) {
      Object.assign(this, { images, shown, failed, before: new Map(), urls: [] });
      this.control = new AbortController();
    }

    async lift() {
      const { signal } = this.control;
      const addresses = new Map(); // each picture once, however often it is on the page
      for (const [, url] of this.images) if (!addresses.has(url)) addresses.set(url, studio.clearPicture(url, signal));
      await Promise.all(this.images.map(([image, url]) => this.clear(image, addresses.get(url), signal)));
    }

    async clear(image, address, signal) {
      try {
        const url = await address;
        this.urls.push(url);
        if (signal.aborted) return this.forget();
        this.before.set(image, image.getAttribute('src'));
        image.src = url;
        return this.shown();
      } catch (error) {
        return error.name === 'AbortError' || signal.aborted ? null : this.failed(error);
      }
    }

    drop() {
      this.control.abort();
      this.before.forEach((source, image) => image.setAttribute('src', source));
      this.forget();
    }

    forget() {
      this.urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
    }
  }
  studio.Veil = Veil;

  /* -- veils in the page: a .duo-veil with pictures and a button that is held --------------------------------------- */

  let held = null;

  function lift(element) {
    if (held) drop();
    const images = [...element.querySelectorAll('img[data-clear]')].map((image) => [image, image.dataset.clear]);
    held = { element, veil: new Veil(images, { shown: () => element.classList.add('is-held') }) };
    held.veil.lift();
  }

  function drop() {
    if (!held) return;
    held.veil.drop();
    held.element.classList.remove('is-held');
    held = null;
  }

  const near = (event, what) => event.target.closest && event.target.closest(what);

  /* -- sliders: the handle follows the finger, also on the pictures ------------------------------------------------- */

  let sliding = null;

  function slide(stage, share) {
    stage.style.setProperty('--x', `${100 * share}%`);
    stage.closest('.duo-slider').querySelector('input[type="range"]').value = 100 * share;
  }

  function follow(event) {
    const { left, width } = sliding.getBoundingClientRect();
    slide(sliding, Math.min(1, Math.max(0, (event.clientX - left) / width)));
  }

  document.addEventListener('input', (event) => {
    const range = near(event, '.duo-slider input[type="range"]');
    if (range) slide(range.closest('.duo-slider').querySelector('.duo-stage'), range.value / 100);
  });
  document.addEventListener('pointerdown', (event) => {
    const stage = near(event, '.duo-slider .duo-stage');
    const button = near(event, '[data-hold]');
    if (event.button || !(stage || button)) return;
    const veil = (stage || button).closest('.duo-veil');
    if (veil) lift(veil);
    if (!stage) return;
    event.preventDefault(); // no picture is dragged away
    sliding = stage;
    follow(event);
  });
  document.addEventListener('pointermove', (event) => sliding && follow(event));
  for (const end of ['pointerup', 'pointercancel', 'blur']) {
    addEventListener(end, () => { // blur: that of the window alone, it does not bubble
      sliding = null;
      drop();
    });
  }
  document.addEventListener('keydown', (event) => {
    const button = near(event, '[data-hold]');
    if (!button || (event.key !== ' ' && event.key !== 'Enter')) return;
    event.preventDefault();
    if (!event.repeat) lift(button.closest('.duo-veil'));
  });
  document.addEventListener('keyup', (event) => near(event, '[data-hold]') && drop());
  document.addEventListener('contextmenu', (event) => near(event, '[data-hold], .duo-veil') && event.preventDefault());

  /* -- downloads ---------------------------------------------------------------------------------------------------- */

  async function download(control) {
    const { form } = control;
    const options = form ? { method: 'POST', body: new URLSearchParams(new FormData(form)) } : {};
    const response = await fetch(form ? form.action : control.href, { ...options, headers, cache: 'no-store' });
    if (!response.ok) throw new Error(await response.text());
    const named = /filename="([^"]+)"/.exec(response.headers.get('Content-Disposition') || '');
    const link = document.createElement('a');
    link.href = URL.createObjectURL(await response.blob());
    link.download = control.download || (named && named[1]) || 'download';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
  document.addEventListener('click', (event) => {
    const control = near(event, '[data-clear-download]');
    if (!control) return;
    event.preventDefault();
    download(control).catch((error) => window.alert(`The download failed: ${error.message}`));
  });
})();
