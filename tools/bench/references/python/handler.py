"""The work of `fan-out` in its usual form, with boto3."""

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from uuid import UUID

import boto3
import psycopg
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1

# While `$connect` runs, a post to its connection is answered 410 as well.
CONNECT_GRACE = timedelta(seconds=30)

CONCURRENT_POSTS = 50

RECIPIENTS = """
SELECT m.space_id, c.connection_id, c.connected_at
FROM members m
JOIN connections c ON c.user_id = m.user_id
WHERE m.space_id = ANY(%s) AND c.expires_at > %s"""

# Compares the time too, because API Gateway may have assigned the id to a newer connection.
FORGET = """
DELETE FROM connections
WHERE connection_id = ANY(%s) AND connected_at <= %s"""

connections = boto3.client(
    "apigatewaymanagementapi",
    # Lambda sets this variable. boto3 reads only AWS_DEFAULT_REGION.
    region_name=os.environ["AWS_REGION"],
    endpoint_url=os.environ["CONNECTIONS_ENDPOINT"],
    config=Config(
        max_pool_connections=CONCURRENT_POSTS,
        connect_timeout=1,
        read_timeout=3,
        retries={"mode": "standard", "total_max_attempts": 5},
    ),
)
executor = ThreadPoolExecutor(max_workers=CONCURRENT_POSTS)


def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


db = connect()


def handler(event, context):
    records = event["Records"]
    failed = set()
    spaces = {}
    for record in records:
        try:
            space_id, sequence, change = decode(record["body"])
            changes, message_ids = spaces.setdefault(space_id, ({}, []))
            changes[sequence] = change
            message_ids.append(record["messageId"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("message %s cannot be read: %r", record["messageId"], error)
            failed.add(record["messageId"])

    now = datetime.now(timezone.utc)
    settled_by = now - CONNECT_GRACE
    recipients = database().execute(RECIPIENTS, (list(spaces), now), prepare=True).fetchall()
    frames = {space_id: frame(space_id, changes) for space_id, (changes, _) in spaces.items()}

    def post(recipient):
        space_id, connection_id, connected_at = recipient
        try:
            connections.post_to_connection(ConnectionId=connection_id, Data=frames[space_id])
            return "notified"
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 410 and connected_at <= settled_by:
                return "gone"
            log.warning("posting to %s failed: %s", connection_id, error)
        except BotoCoreError as error:
            log.warning("posting to %s failed: %s", connection_id, error)
        return "failed"

    notified, gone = 0, []
    for (space_id, connection_id, _), outcome in zip(recipients, executor.map(post, recipients)):
        if outcome == "notified":
            notified += 1
        elif outcome == "gone":
            gone.append(connection_id)
        else:
            failed.update(spaces[space_id][1])

    if gone:
        try:
            database().execute(FORGET, (gone, settled_by))
        except psycopg.Error as error:
            # Each remaining row costs one post per event until it expires. That does not justify retrying the
            # batch.
            log.warning("gone connections could not be forgotten: %s", error)
    log.info("%d records: %d notified, %d gone, %d to come again", len(records), notified, len(gone), len(failed))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def database():
    """Return the database connection; reconnect if it is closed."""
    global db
    if db.closed:
        db = connect()
    return db


def decode(body):
    change = json.loads(body)
    if change.pop("schemaVersion") != SCHEMA_VERSION:
        raise ValueError("it is no event")
    change.pop("delivery", None)
    return UUID(change["spaceId"]), int(change["sequence"]), change


def frame(space_id, changes):
    ordered = [changes[sequence] for sequence in sorted(changes)]
    content = {"type": "changes", "spaceId": str(space_id), "changes": ordered}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
