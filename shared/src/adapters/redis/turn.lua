-- Gives the next turn in a queue that all workers share, as in domain/limits/turns.rs, on the clock of Redis.
--
-- KEYS: turns. ARGV: from now until the first turn at the earliest, how long a turn is, and how long the queue may be from
-- then on, all in microseconds.
-- Returns in how many microseconds the turn begins, or -1 if the queue would be too long; nothing was given then.

local earliest, spacing, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
-- Doubles hold whole numbers up to 2^53: microseconds until the year 2255.
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
-- Something that is no number is none of ours.
local begin = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now + earliest)
local finish = begin + spacing
if finish - now - earliest > longest then
  return -1
end
-- Once all turns have passed, the key says no more than none at all.
redis.call('SET', KEYS[1], string.format('%.0f', finish), 'PX', math.max(1, math.ceil((finish - now) / 1000)))
return begin - now
