/* "Import released weights": the chosen file goes up as it is when Import is pressed; Gradio's own upload is too small. */
(() => {
  const studio = (window.duoStudio = window.duoStudio || {});
  const zone = () => document.querySelector('#duo-import .im-zone');
  let sending = false;

  async function begin(base) {
    const options = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' };
    const response = await fetch(`${base}/begin`, options);
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer.upload;
  }

  function put(address, file, bar) {
    return studio.putFile(address, file, (loaded) => {
      const share = Math.min(100, (100 * loaded) / (file.size || 1));
      bar.querySelector('i').style.width = `${share}%`;
      bar.setAttribute('aria-valuenow', Math.round(share));
    });
  }

  /* The upload's id, "" where no file is chosen, "!" and the reason where it failed. */
  studio.sendWeights = async (project) => {
    const file = zone().querySelector('input').files[0];
    if (!file) return '';
    if (sending) return '!The file is being sent already.';
    sending = true;
    const bar = zone().querySelector('.duo-progress');
    bar.hidden = false;
    try {
      const base = `studio/bring/${project}`;
      const upload = await begin(base);
      await put(`${base}/${upload}/file?name=${encodeURIComponent(file.name)}`, file, bar);
      return upload;
    } catch (error) {
      return `!${error.message}`;
    } finally {
      bar.hidden = true;
      sending = false;
    }
  };

  /* Once a job has the file: none is chosen any more, unless something was wrong. */
  studio.sentWeights = () => {
    if (!document.querySelector('#duo-import-said .duo-note-error')) zone().querySelector('input').value = '';
  };
})();
