FROM python:3.13-slim AS build
WORKDIR /app
COPY requirements.txt .
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements.txt

FROM python:3.13-slim
RUN useradd --system --create-home waybill
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 WAYBILL_STATE=/var/lib/waybill STATIC_ROOT=/var/lib/waybill/static
WORKDIR /app
COPY . .
# Collecting static files needs settings, not servers.
RUN mkdir -p "$WAYBILL_STATE" && \
    DATABASE_URL=postgres://build@localhost/build REDIS_URL=redis://localhost SECRET_KEY=build \
    PERSONAL_DATA_KEYS=build:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= \
    python manage.py collectstatic --noinput && chown -R waybill "$WAYBILL_STATE"
USER waybill
EXPOSE 8000
HEALTHCHECK --interval=10s CMD python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=3)"
CMD ["gunicorn", "config.asgi:application", "--worker-class", "uvicorn_worker.UvicornWorker", \
     "--bind", "0.0.0.0:8000", "--workers", "2", "--graceful-timeout", "15"]
