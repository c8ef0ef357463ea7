-- Takes one request out of a rate: GCRA, as in domain/limits/gcra.rs, on the clock of Redis, so that the clocks of the
-- workers need not agree.
--
-- KEYS: rate, line. ARGV: interval between requests in microseconds, burst, 1 if it is the caller's turn in the line.
-- Returns 0 if granted, else in how many microseconds one would be; nothing was consumed then.

local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
-- Doubles hold whole numbers up to 2^53: microseconds until the year 2255.
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local tolerance = interval * (burst - 1)
local furthest = now + tolerance + interval

-- Whoever has just come stands behind those that wait.
local line = ARGV[3] ~= '1' and tonumber(redis.call('GET', KEYS[2]))
if line and line > now then
  return line - now
end

-- Something that is no number is none of ours.
local stored = tonumber(redis.call('GET', KEYS[1]))
local arrival = math.max(math.min(stored or now, furthest), now)
local wait = arrival - tolerance - now
if wait <= 0 then
  arrival = arrival + interval
end
-- Written after a refusal only if the clock went back or the rate was changed: waiting for that to pass could take for
-- ever.
if wait <= 0 or (stored and stored > furthest) then
  -- Once the arrival has passed, the key says no more than none at all.
  redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
end
return math.max(wait, 0)
