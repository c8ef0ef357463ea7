"""The same refresh as a Celery task: reads the inputs, calls the provider, stores the token, writes details and token to
the cache; acknowledged after it (acks_late). No fence, no claim, no retry.

Tuned: one connection each to MySQL, Redis and the provider, kept by every process of the pool; no results, events, gossip,
mingling or heartbeats; the messages ahead of a process bounded by the prefetch multiplier.
"""

import json
import os
from datetime import datetime, timedelta, timezone
from threading import local
from urllib.parse import unquote, urlsplit

import pymysql
import redis
import requests
from celery import Celery
from kombu import Queue

LIFETIME = timedelta(hours=1)
QUEUE = os.environ["QUEUE"]
PROVIDER = os.environ["PROVIDER_URL"]

READ = (
    "SELECT k.inputFields, c.id, c.account_id, c.channel_id, c.additionalDetails "
    "FROM ie_appinstall_connection k JOIN channels c ON c.connectionId = k.id WHERE k.id = %s ORDER BY c.id"
)
STORE = (
    "UPDATE ie_appinstall_connection SET accessToken = %s, accessTokenExpiryAt = %s, accessTokenGeneratedOn = %s "
    "WHERE id = %s"
)

app = Celery("refresh", broker=os.environ["AMQP_URL"])
app.conf.update(
    task_queues=[Queue(QUEUE, routing_key=QUEUE, exchange="", queue_arguments={"x-queue-type": "quorum"})],
    task_default_queue=QUEUE,
    task_create_missing_queues=False,
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=int(os.environ.get("PREFETCH_MULTIPLIER", "16")),
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_heartbeat=0,
)

kept = local()


def services():
    """The connections of this process."""
    if not hasattr(kept, "services"):
        url = urlsplit(os.environ["MYSQL_URL"])
        database = pymysql.connect(
            host=url.hostname,
            port=url.port,
            user=unquote(url.username),
            password=unquote(url.password),
            database=url.path[1:],
            autocommit=True,
            init_command="SET time_zone = '+00:00'",
        )
        kept.services = (database, redis.Redis.from_url(os.environ["REDIS_URL"]), requests.Session())
    return kept.services


@app.task(name="refresh")
def refresh(connection_id):
    database, cache, provider = services()
    with database.cursor() as cursor:
        cursor.execute(READ, (connection_id,))
        rows = cursor.fetchall()
        if not rows:
            return
        inputs = json.loads(rows[0][0])
        answer = provider.get(
            f"{PROVIDER}/api/v1/Eshopbox/shipment/authToken",
            params={"username": inputs["x-integration-id"], "password": inputs["x-integration-token"]},
            timeout=15,
        )
        answer.raise_for_status()
        token = answer.json()["accessToken"]
        now = datetime.now(timezone.utc).replace(tzinfo=None)
        cursor.execute(STORE, (token, now + LIFETIME, now, connection_id))
    details = [
        {"id": row[1], "account_id": row[2], "channel_id": row[3], "additionalDetails": json.loads(row[4])}
        for row in rows
    ]
    pipeline = cache.pipeline(transaction=False)
    pipeline.set(f"connectionDetail_{connection_id}", json.dumps(details), ex=LIFETIME)
    pipeline.set(f"connectionAccessToken_{connection_id}", token, ex=LIFETIME)
    pipeline.execute()
