-- Writes a token and the headers made of it, unless a newer generation was written before.
--
-- KEYS: generation, token, then one per header.
-- ARGV: generation, time to live of the token and of the generation in milliseconds (0: no end), token, then per header
--       "dies with the token" or "stays", and its value.
-- Returns 1 if written, 0 if refused.

-- Something that is no number is none of ours, and must not keep tokens out for ever.
local standing = tonumber(redis.call('GET', KEYS[1]))
if standing and standing > tonumber(ARGV[1]) then
  return 0
end

local function set(key, value, life)
  if tonumber(life) > 0 then
    redis.call('SET', key, value, 'PX', life)
  else
    redis.call('SET', key, value)
  end
end

set(KEYS[2], ARGV[4], ARGV[2])
for header = 3, #KEYS do
  local life, value = ARGV[2 * header - 1], ARGV[2 * header]
  set(KEYS[header], value, life == 'stays' and 0 or ARGV[2])
end
set(KEYS[1], ARGV[1], ARGV[3])
return 1
