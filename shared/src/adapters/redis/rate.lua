-- Takes one request out of a rate: GCRA, as in domain/limits/gcra.rs, on the clock of Redis, so that the clocks of the
-- workers need not agree.
--
-- KEYS: rate. ARGV: interval between requests in microseconds, burst, for how many microseconds the caller waits, for how
-- many anybody does at most.
-- Returns in how many microseconds the request may go out. More than the caller waits for: it is refused, and nothing was
-- consumed.

local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local patience, ahead = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
-- Doubles hold whole numbers up to 2^53: microseconds until the year 2255.
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local tolerance = interval * (burst - 1)
local furthest = now + tolerance + interval + ahead

-- Something that is no number is none of ours.
local stored = tonumber(redis.call('GET', KEYS[1]))
local arrival = math.max(math.min(stored or now, furthest), now)
local wait = math.max(arrival - tolerance - now, 0)
if wait <= patience then
  arrival = arrival + interval
end
-- Written after a refusal only if the clock went back or the rate was changed: waiting for that to pass could take for
-- ever.
if wait <= patience or (stored and stored > furthest) then
  -- Once the arrival has passed, the key says no more than none at all.
  redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
end
return wait
