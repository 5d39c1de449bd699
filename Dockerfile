# The studio on port 7860 as uid 1000, for any container host or a Docker Space.
#   docker build -t duo-studio .
#   docker run -p 7860:7860 -v duo-studio:/home/studio/data duo-studio
# For an NVIDIA card: --build-arg TORCH_INDEX=https://pypi.org/simple, and docker run --gpus all.
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 1000 studio
WORKDIR /home/studio/app
COPY requirements.txt .
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" $(grep -E '^torch(vision)?==' requirements.txt) \
    && pip install --no-cache-dir -r requirements.txt

COPY --chown=studio . .
USER studio
RUN mkdir -p /home/studio/data
ENV GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    DUO_STUDIO_DATA=/home/studio/data \
    PYTHONUNBUFFERED=1
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/', timeout=4)"]
CMD ["python", "app.py"]
