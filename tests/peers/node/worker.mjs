// A worker by hand: takes a message, reads the inputs, calls the provider, stores the token, writes details and token to
// the cache, acknowledges. No fence, no claim, no retry; what fails ends the process.
//
// Tuned: as many messages in flight as PREFETCH says; prepared statements on a pool of connections; keep-alive to the
// provider; commands to Redis go out together (enableAutoPipelining).

import amqp from 'amqplib';
import Redis from 'ioredis';
import mysql from 'mysql2/promise';
import { Pool } from 'undici';

const { MYSQL_URL, AMQP_URL, QUEUE, REDIS_URL, PROVIDER_URL, PREFETCH = '256' } = process.env;

const READ =
  'SELECT k.inputFields, c.id, c.account_id, c.channel_id, c.additionalDetails ' +
  'FROM ie_appinstall_connection k JOIN channels c ON c.connectionId = k.id WHERE k.id = ? ORDER BY c.id';
const STORE =
  'UPDATE ie_appinstall_connection SET accessToken = ?, accessTokenExpiryAt = ?, accessTokenGeneratedOn = ? WHERE id = ?';
const LIFETIME_MS = 3_600_000;

const database = mysql.createPool({ uri: MYSQL_URL, connectionLimit: 16, timezone: 'Z' });
const cache = new Redis(REDIS_URL, { enableAutoPipelining: true });
const provider = new Pool(PROVIDER_URL, { connections: 64, pipelining: 1 });

const parsed = (json) => (typeof json === 'string' ? JSON.parse(json) : json);

async function grant(inputs) {
  const query = new URLSearchParams({
    username: inputs['x-integration-id'],
    password: inputs['x-integration-token'],
  });
  const path = `/api/v1/Eshopbox/shipment/authToken?${query}`;
  const { statusCode, body } = await provider.request({ method: 'GET', path });
  const answer = await body.json();
  if (statusCode !== 200 || answer.status !== 'SUCCESS') throw new Error(`the provider answers ${statusCode}`);
  return answer.accessToken;
}

async function refresh(id) {
  const [rows] = await database.execute(READ, [id]);
  if (rows.length === 0) return;
  const token = await grant(parsed(rows[0].inputFields));
  const now = new Date();
  await database.execute(STORE, [token, new Date(now.getTime() + LIFETIME_MS), now, id]);
  const details = rows.map(({ id, account_id, channel_id, additionalDetails }) => ({
    id,
    account_id,
    channel_id,
    additionalDetails: parsed(additionalDetails),
  }));
  await Promise.all([
    cache.set(`connectionDetail_${id}`, JSON.stringify(details), 'EX', LIFETIME_MS / 1000),
    cache.set(`connectionAccessToken_${id}`, token, 'EX', LIFETIME_MS / 1000),
  ]);
}

const connection = await amqp.connect(AMQP_URL);
const channel = await connection.createChannel();
await channel.prefetch(Number(PREFETCH));
await channel.consume(QUEUE, async (message) => {
  await refresh(JSON.parse(message.content.toString()).connection_id);
  channel.ack(message);
});
