# The studio on port 7860 as uid 1000, for any container host or a Docker Space. See docs/hosting.md.
#   docker build -t duo-studio .                                                       for a CPU
#   docker build -t duo-studio:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .  for an NVIDIA card (--gpus all)
FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 1000 studio \
    && install --directory --owner=studio /home/studio/app /home/studio/data
WORKDIR /home/studio/app
COPY requirements.txt .
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" $(grep -E '^torch(vision)?==' requirements.txt) \
    && pip install --no-cache-dir -r requirements.txt

COPY --chown=studio . .
USER studio
# Everything that is written lies in the data folder or in /tmp, so that the root may be read-only. DUO_STUDIO_DATA stays
# unset: in a Docker Space with persistent storage the data lie there.
ENV GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    XDG_DATA_HOME=/home/studio/data \
    GRADIO_TEMP_DIR=/tmp/gradio \
    HF_HOME=/home/studio/data/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
VOLUME /home/studio/data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
CMD ["python", "app.py"]
