"""Settings: everything by environment, with defaults that run on one machine. `.env.example` lists them all."""

from __future__ import annotations

import sys
from base64 import b64encode
from datetime import timedelta
from hashlib import sha256
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static

from config.embedded import running_servers
from config.wrapping_keys import wrapping_keys

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
environ.Env.read_env(BASE_DIR / ".env")

STATE_DIR = Path(env.str("WAYBILL_STATE", default=str(BASE_DIR / "var")))
_embedded = running_servers(STATE_DIR)


def _required(name: str, embedded: str | None) -> str:
    """The environment's value, or that of the embedded server; what is missing is collected for one message."""
    value: str = env.str(name, default=embedded or "")
    if not value:
        _missing.append(name)
    return value


_missing: list[str] = []
DATABASE_URL = _required("DATABASE_URL", _embedded.database_url)
REDIS_URL = _required("REDIS_URL", _embedded.redis_url)
SECRET_KEY = _required("SECRET_KEY", _embedded.secret_key)
PERSONAL_DATA_KEYS = _required("PERSONAL_DATA_KEYS", _embedded.personal_data_keys)
# These two commands start the servers that are missing, and reach none themselves.
STARTS_SERVERS = sys.argv[1:2] in (["run"], ["demo"])
if _missing and not STARTS_SERVERS:
    raise ImproperlyConfigured(
        f"Not set: {', '.join(_missing)}. Set them in the environment or in .env (see .env.example), "
        "or start the embedded servers with `make run`."
    )

DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
HTTPS = env.bool("HTTPS", default=False)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None

INSTALLED_APPS = [
    "config",
    "eventing",
    "orders",
    "payments",
    "inventory",
    "shipping",
    "knox",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    # The first one: those that follow want one of ALLOWED_HOSTS, and HTTPS. Probes come by address and plain HTTP.
    "config.health.Probes",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.bodies.BodyLimit",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # The last one, because it's for threads alone: all before it then share its thread.
    "config.throttling.RateLimitHeaders",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
WSGI_APPLICATION = "config.wsgi.application"
APPEND_SLASH = False
LOGIN_REDIRECT_URL = "/admin/"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Web processes run each request in a fresh thread, so they need a pool; a worker keeps the one connection that it
# has, and checks it, because Celery would otherwise open another for every task.
DATABASE_POOL = env.bool("DATABASE_POOL", default=False)
DATABASES = {
    "default": {
        **env.db_url_config(DATABASE_URL or "postgresql://"),
        "CONN_MAX_AGE": 0 if DATABASE_POOL else 600,
        "CONN_HEALTH_CHECKS": True,
    }
}
DATABASES["default"].setdefault("OPTIONS", {}).update(
    {
        "application_name": "waybill",
        # PgBouncer before 1.22 can't carry prepared statements in transaction mode: switch them off there.
        "prepare_threshold": 5 if env.bool("DATABASE_PREPARE", default=True) else None,
        **({"pool": {"min_size": 1, "max_size": 20, "timeout": 10}} if DATABASE_POOL else {}),
    }
)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL},
    "process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# Mail to buyers, and alerts. Without a server nothing is sent, and nobody is kept waiting for it.
vars().update(env.email_url("EMAIL_URL", default="dummymail://"))
# Whom to tell of dead letters: by mail, and by a POST to an address.
ADMINS = [(address, address) for address in env.list("ALERT_MAIL_TO", default=[])]
ALERT_WEBHOOK_URL = env.str("ALERT_WEBHOOK_URL", default="")
if ALERT_WEBHOOK_URL and not ALERT_WEBHOOK_URL.startswith(("http://", "https://")):
    raise ImproperlyConfigured(f"ALERT_WEBHOOK_URL is {ALERT_WEBHOOK_URL!r}; it has to begin with http:// or https://.")
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Waybill <orders@localhost>")
EMAIL_TIMEOUT = 10

# Seconds that the relay or a subscription may be behind before /readyz says 503; 0 is any number.
READY_LAG_SECONDS = env.float("READY_LAG_SECONDS", default=0.0)

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = env.str("STATIC_ROOT", default=None)  # needed for collectstatic alone: without it, packages serve theirs
WHITENOISE_USE_FINDERS = True

# Celery. Redis hands a task out again when it isn't acknowledged within `visibility_timeout`, so that has to be
# longer than any task may take. Every task here is idempotent by its checkpoint or its delivery row.
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default=REDIS_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {
        "visibility_timeout": 300,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "global_keyprefix": "waybill:",
    }
    if CELERY_BROKER_URL.startswith("redis")
    else {}
)
CELERY_TASK_DEFAULT_QUEUE = "eventing"
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_ACKS_ON_FAILURE_OR_TIMEOUT = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT, CELERY_TASK_SOFT_TIME_LIMIT = 60, 45
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# After the broker was gone, a worker would take less than it can until each task from before has ended.
CELERY_WORKER_ENABLE_PREFETCH_COUNT_REDUCTION = False
CELERY_WORKER_MAX_TASKS_PER_CHILD = 5000
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 10.0
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_DB_REUSE_MAX = 1000
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "eventing.sweep", "schedule": timedelta(seconds=1), "options": {"expires": 5}},
}

# Who takes the money, and who carries the parcels. The simulators bear witness of what they were asked for.
PAYMENT_GATEWAY = env.str("PAYMENT_GATEWAY", default="simulated")
CARRIER = env.str("CARRIER", default="simulated")
STRIPE_API_KEY = env.str("STRIPE_API_KEY", default="")
STRIPE_WEBHOOK_SECRET = [each.strip() for each in env.list("STRIPE_WEBHOOK_SECRET", default=[]) if each.strip()]
STRIPE_API_BASE = env.str("STRIPE_API_BASE", default="https://api.stripe.com")
SIMULATED_LATENCY = env.float("SIMULATED_LATENCY", default=0.0)
SIMULATED_CARRIER_TIMEOUTS = env.float("SIMULATED_CARRIER_TIMEOUTS", default=0.0)
SIMULATED_WEBHOOK_SECRET = "whsec_" + b64encode(sha256(f"webhooks {SECRET_KEY}".encode()).digest()).decode()
if PAYMENT_GATEWAY not in ("simulated", "stripe"):
    raise ImproperlyConfigured(f"PAYMENT_GATEWAY is {PAYMENT_GATEWAY!r}; it has to be simulated or stripe.")
if PAYMENT_GATEWAY == "stripe" and not (STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET):
    raise ImproperlyConfigured("PAYMENT_GATEWAY is stripe, which takes STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET.")
if PAYMENT_GATEWAY == "stripe" and find_spec("stripe") is None:
    raise ImproperlyConfigured("PAYMENT_GATEWAY is stripe: pip install -r requirements-stripe.txt")
if CARRIER != "simulated":
    raise ImproperlyConfigured(f"CARRIER is {CARRIER!r}; the only one there is yet is simulated.")
if PAYMENT_GATEWAY == "simulated":
    CELERY_BEAT_SCHEDULE["simulated webhooks"] = {
        "task": "payments.simulated_webhooks",
        "schedule": timedelta(seconds=1),
        "options": {"expires": 5, "queue": "gateway"},
    }

# Who sees to new orders: one saga (orchestrated), or each context by what it hears (choreographed). Orders that are
# under way end in the manner that they began with.
FULFILMENT = env.str("FULFILMENT", default="orchestrated")
if FULFILMENT not in ("orchestrated", "choreographed"):
    raise ImproperlyConfigured(f"FULFILMENT is {FULFILMENT!r}; it has to be orchestrated or choreographed.")

try:
    WEBHOOK_ALLOWED_NETWORKS = [ip_network(each) for each in env.list("WEBHOOK_ALLOWED_NETWORKS", default=[])]
except ValueError as error:
    raise ImproperlyConfigured(f"WEBHOOK_ALLOWED_NETWORKS has to be networks such as 10.1.0.0/16: {error}.") from error
WEBHOOK_SCHEDULE = [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]

EVENTING = {
    "PERSON_KEYS": wrapping_keys(PERSONAL_DATA_KEYS),
    # What operators call affected: the field of events that names it, what it's called, and the URL name of its page.
    "SUBJECT": {"field": "order_id", "name": "order", "names": "orders", "page": "dashboard:order"},
    "QUEUES": ["eventing", "gateway", "carrier", "mail", "webhooks"],
    "BATCH": env.int("EVENTING_BATCH", default=500),
    "LEASE_SECONDS": env.float("EVENTING_LEASE_SECONDS", default=60.0),
    "ATTEMPTS": env.int("EVENTING_ATTEMPTS", default=8),
    "BACKOFF_SECONDS": env.float("EVENTING_BACKOFF_SECONDS", default=1.0),
    "BACKOFF_CAP_SECONDS": env.float("EVENTING_BACKOFF_CAP_SECONDS", default=600.0),
    "ALERT_AFTER_SECONDS": env.float("EVENTING_ALERT_AFTER_SECONDS", default=900.0),
    "ALERT_WEBHOOK_URL": ALERT_WEBHOOK_URL,
    "STREAMS": env.int("EVENTING_STREAMS", default=20),
    "STREAM_SECONDS": env.float("EVENTING_STREAM_SECONDS", default=300.0),
    "STREAM_HEARTBEAT_SECONDS": env.float("EVENTING_STREAM_HEARTBEAT_SECONDS", default=15.0),
    "HASH_CHAIN": env.bool("EVENTING_HASH_CHAIN", default=True),
    "KEEP_ANSWERS_HOURS": env.int("EVENTING_KEEP_ANSWERS_HOURS", default=24),
    # Seconds before each attempt at a webhook; after the last one the delivery has failed.
    "WEBHOOK_SCHEDULE": env.list("WEBHOOK_SCHEDULE", cast=float, default=WEBHOOK_SCHEDULE),
    "WEBHOOK_SECONDS": env.float("WEBHOOK_SECONDS", default=15.0),
    "WEBHOOK_INSECURE": env.bool("WEBHOOK_INSECURE", default=False),
    "WEBHOOK_ALLOWED_NETWORKS": WEBHOOK_ALLOWED_NETWORKS,
}

UNFOLD = {
    "SITE_TITLE": "Waybill",
    "SITE_HEADER": "Waybill",
    "SITE_SYMBOL": "local_shipping",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("waybill/favicon.svg")}],
    "STYLES": [lambda request: static("waybill/operations.css")],
    "SCRIPTS": [lambda request: static("waybill/operations.js")],
    "SHOW_VIEW_ON_SITE": False,
    # The frame's own colours, but for links in the dark: its own are too dark to be read there by everybody.
    "COLORS": {"primary": {"500": "oklch(72% .19 305)"}},
    "SIDEBAR": {"navigation": "config.dashboard.navigation.sidebar"},
}

# Requests a minute that the API takes of an account, and of an address whose account isn't known.
API_RATE = env.int("API_RATE", default=6_000)
API_RATE_ANONYMOUS = env.int("API_RATE_ANONYMOUS", default=300)
DATA_UPLOAD_MAX_MEMORY_SIZE = 8 * 1024 * 1024  # bytes; config.bodies allows most requests less

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "config.authentication.BearerToken",
        "rest_framework.authentication.SessionAuthentication",
        "config.authentication.OnBehalf",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.parsing.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "config.pagination.Cursors",
    "DEFAULT_FILTER_BACKENDS": ["eventing.filters.ByFilters"],
    "DEFAULT_THROTTLE_CLASSES": ["config.throttling.RequestsAMinute"],
    "NUM_PROXIES": env.int("PROXIES", default=0),
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_SCHEMA_CLASS": "config.schema.Described",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
REST_KNOX = {
    "AUTH_HEADER_PREFIX": "Bearer",
    "TOKEN_PREFIX": "wb_",
    "TOKEN_TTL": timedelta(days=env.int("API_TOKEN_DAYS", default=90)),
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Waybill",
    "DESCRIPTION": "Orders, from placed to delivered.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "OrderStatus": "orders.models.Status",
        "LetterState": "eventing.models.Delivery.State",
        "OpenLetterState": "eventing.models.Delivery.OPEN",
        "LetterJobState": "eventing.models.LetterJob.State",
        "LetterOutcome": "eventing.models.JobLetter.State",
        "WebhookDeliveryState": "eventing.models.WebhookDelivery.State",
        "CommandState": "eventing.models.RequestedCommand.State",
    },
    "WEBHOOKS": ["eventing.webhooks.api.event_happened"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.problems.describe",
        "config.schema.describe",
    ],
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "config.problems.ProblemHandler",
    "EXCEPTION_FORMATTER_CLASS": "config.problems.ProblemFormatter",
    "ENABLE_IN_DEBUG_FOR_UNHANDLED_EXCEPTIONS": True,
    "NESTED_FIELD_SEPARATOR": "/",
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "filters": {
        "unexpected": {  # that something isn't available is told where it's found out, if it's worth telling
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: getattr(record, "status_code", 0) != 503,
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        "django.request": {"filters": ["unexpected"]},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        "httpx2": {"level": "WARNING"},  # which would tell of every webhook, with its whole address
    },
}
