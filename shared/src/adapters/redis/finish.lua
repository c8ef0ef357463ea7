-- Removes the mark of a refresh in flight, unless it ran out and is somebody else's by now.
--
-- KEYS: attempt. ARGV: holder. Returns how many marks were removed.

if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
