# The page and the server on a CPU: docker run -p 127.0.0.1:8000:8000 multitasknet
FROM python:3.11-slim

RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home serve

COPY . /source
RUN pip install --no-cache-dir '/source[serve]' && rm -rf /source

USER serve
WORKDIR /home/serve
# Networks as ONNX files in the cache, so that a container starts in seconds.
RUN python -c "from multitasknet import Predictor; \
Predictor('synthetic', pose='synthetic').predict([])"

EXPOSE 8000
HEALTHCHECK --interval=10s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz')"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["multitasknet", "serve", "--host", "0.0.0.0"]
