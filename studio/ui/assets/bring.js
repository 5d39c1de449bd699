/* The drop zone of "Bring your own pairs": files and folders go up one by one, and then the server says what they are. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const text = (value) => String(value).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const count = (number, noun) => `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;
  let zone = null;

  /* Every file of what was dropped, with its folders: [path, File]. */
  async function droppedFiles({ items, files }) {
    const entries = [...items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
    if (!entries.length) return [...files].map((file) => [file.name, file]);
    const found = [];
    const read = (reader) => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    async function walk(entry, path) {
      if (entry.isFile) {
        found.push([path + entry.name, await new Promise((resolve, reject) => entry.file(resolve, reject))]);
        return;
      }
      const reader = entry.createReader();
      for (let part = await read(reader); part.length; part = await read(reader)) {
        for (const inside of part) await walk(inside, `${path}${entry.name}/`);
      }
    }
    for (const entry of entries) await walk(entry, '');
    return found;
  }

  class Zone {
    constructor(root) {
      this.root = root;
      this.base = `studio/bring/${root.dataset.project}`;
      this.upload = '';
      this.busy = false;
      const at = (name) => root.querySelector(`[data-is="${name}"]`);
      this.at = at;
      root.addEventListener('click', (event) => {
        const button = event.target.closest('[data-do]');
        if (!button) return;
        if (button.dataset.do === 'drop') this.forget();
        else at(button.dataset.do).click();
      });
      for (const name of ['files', 'folder']) {
        at(name).addEventListener('change', () => {
          const files = [...at(name).files].map((file) => [file.webkitRelativePath || file.name, file]);
          at(name).value = '';
          this.take(files);
        });
      }
      for (const name of ['dragenter', 'dragover', 'dragleave', 'drop']) {
        root.addEventListener(name, (event) => {
          event.preventDefault();
          event.stopPropagation();
          root.classList.toggle('is-over', name === 'dragenter' || name === 'dragover');
        });
      }
      root.addEventListener('drop', async (event) => this.take(await droppedFiles(event.dataTransfer)));
    }

    say(html, kind = '') {
      this.at('said').innerHTML = html ? `<div class="br-said ${kind}">${html}</div>` : '';
    }

    async post(path) {
      const response = await fetch(`${this.base}/${path}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: '{}',
      });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error);
      return answer;
    }

    /* One file, as it is; `told` hears how many bytes of it are there. */
    send(name, file, told) {
      const address = `${this.base}/${this.upload}/file?name=${encodeURIComponent(name)}`;
      return window.duoStudio.putFile(address, file, told);
    }

    /* Add files to those that wait; a second drop adds to the first. */
    async take(files) {
      if (!files.length || this.busy) return;
      this.busy = true;
      this.say('');
      const bar = this.at('bar');
      const total = files.reduce((sum, [, file]) => sum + file.size, 0) || 1;
      let before = 0;
      const show = (bytes, number) => {
        const share = Math.min(100, (100 * (before + bytes)) / total);
        bar.hidden = false;
        bar.querySelector('i').style.width = `${share}%`;
        bar.setAttribute('aria-valuenow', Math.round(share));
        this.say(`Uploading file ${number.toLocaleString('en')} of ${files.length.toLocaleString('en')} …`);
      };
      try {
        if (!this.upload) this.upload = (await this.post('begin')).upload;
        for (const [index, [name, file]] of files.entries()) {
          show(0, index + 1);
          await this.send(name, file, (bytes) => show(bytes, index + 1));
          before += file.size;
        }
        this.say('Looking at the files …');
        this.tell(await this.post(`${this.upload}/look`));
      } catch (error) {
        this.say(text(error.message), 'is-wrong');
      }
      bar.hidden = true;
      this.busy = false;
      this.root.querySelector('[data-do="drop"]').hidden = !this.upload;
    }

    tell(found) {
      const parts = [];
      if (found.pairs) parts.push(`<b>${count(found.pairs, 'pair')}</b>`);
      if (found.rows) parts.push(`<b>${count(found.rows, 'row')}</b> of parquet`);
      if (found.alone) parts.push(`<b>${count(found.alone, 'picture')}</b> without a safe twin`);
      if (found.wrong) parts.push(`${count(found.wrong, 'file')} that will not be taken`);
      const twins = found.alone ? '<p>Those without a twin are taken only if twins are made, which needs both prompts.</p>' : '';
      const rows = found.problems.map((one) => `<li><b>${text(one.name)}</b> ${text(one.why)}</li>`).join('');
      const more = found.wrong > found.problems.length ? `<li>… and ${count(found.wrong - found.problems.length, 'more')}</li>` : '';
      this.say(`<p>${parts.join(', ') || 'There are no pictures in these files'}.</p>${twins}${rows && `<ul>${rows}${more}</ul>`}`);
    }

    async forget() {
      if (this.busy) return;
      const { upload } = this;
      this.clear();
      if (upload) await fetch(`${this.base}/${upload}/drop`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' });
    }

    clear() {
      this.upload = '';
      this.say('');
      this.root.querySelector('[data-do="drop"]').hidden = true;
    }
  }

  studio.bring = (element) => {
    const root = element.querySelector('.br-zone');
    if (root && (!zone || zone.root !== root)) zone = new Zone(root);
  };
  studio.broughtUpload = () => (zone && !zone.busy ? zone.upload : '');
  /* Once a job has the files: the zone is empty again, unless something was wrong with the settings. */
  studio.broughtIn = () => {
    if (zone && !document.querySelector('#duo-bring-said .duo-note-error')) zone.clear();
  };
})();
