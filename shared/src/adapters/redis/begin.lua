-- Marks a refresh as in flight. The same holder may ask again: the answer to its first question may have been lost.
--
-- KEYS: attempt. ARGV: holder, time to hold in milliseconds. Returns 1 if the mark is the holder's, else 0.

if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 1
end
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
return 0
