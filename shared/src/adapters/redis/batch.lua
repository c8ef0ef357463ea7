-- Runs the commands of many jobs, each by itself: what fails, fails alone.
--
-- KEYS: all keys, command by command. ARGV: per command its name, its number of keys, its number of arguments, and these.
-- Returns per command a number, or a text where it failed.

local run = {}

-- Writes a token and the headers made of it, unless a newer generation was written before.
--
-- Keys: generation, token, then one per header.
-- Arguments: generation, time to live of the token and of the generation in milliseconds (0: no end), token, then per
--            header "dies with the token" or "stays", and its value.
-- 1 if written, 0 if refused.
function run.put_token(keys, arguments)
  -- Something that is no number is none of ours, and must not keep tokens out for ever.
  local standing = tonumber(redis.call('GET', keys[1]))
  if standing and standing > tonumber(arguments[1]) then
    return 0
  end
  local function set(key, value, life)
    if tonumber(life) > 0 then
      redis.call('SET', key, value, 'PX', life)
    else
      redis.call('SET', key, value)
    end
  end
  set(keys[2], arguments[4], arguments[2])
  for header = 3, #keys do
    local life, value = arguments[2 * header - 1], arguments[2 * header]
    set(keys[header], value, life == 'stays' and 0 or arguments[2])
  end
  set(keys[1], arguments[1], arguments[3])
  return 1
end

-- Writes entries that stay. Keys: one per entry. Arguments: their values.
function run.put(keys, arguments)
  for entry = 1, #keys do
    redis.call('SET', keys[entry], arguments[entry])
  end
  return #keys
end

-- Writes entries that stay, and removes others, unless a newer generation was written before.
--
-- Keys: generation, those to be written, then those to be removed. Arguments: generation, then the values.
function run.replace(keys, arguments)
  local standing = tonumber(redis.call('GET', keys[1]))
  local is_newer = standing and standing > tonumber(arguments[1])
  for entry = 2, #keys do
    if arguments[entry] then
      redis.call('SET', keys[entry], arguments[entry])
    elseif not is_newer then
      redis.call('DEL', keys[entry])
    end
  end
  return #keys
end

-- Writes entries that stay where there is none. Keys: one per entry. Arguments: their values.
function run.restore(keys, arguments)
  for entry = 1, #keys do
    redis.call('SETNX', keys[entry], arguments[entry])
  end
  return #keys
end

-- Whether the cache is filled. Keys: warm. 1 or 0.
function run.is_warm(keys)
  return redis.call('GET', keys[1]) == 'warm' and 1 or 0
end

-- Notes that a run begins to fill the cache. Keys: warm. Arguments: the run.
function run.begin_warming(keys, arguments)
  redis.call('SET', keys[1], 'filled by ' .. arguments[1])
  return 1
end

-- Notes that it has filled it, unless all was lost meanwhile. Keys: warm. Arguments: the run. 1 if it is filled, else 0.
function run.end_warming(keys, arguments)
  if redis.call('GET', keys[1]) ~= 'filled by ' .. arguments[1] then
    return 0
  end
  redis.call('SET', keys[1], 'warm')
  return 1
end

-- Removes entries. Returns how many there were.
function run.clear(keys)
  return redis.call('DEL', unpack(keys))
end

-- Marks a refresh as in flight. The same holder may ask again: the answer to its first question may have been lost.
--
-- Keys: attempt. Arguments: holder, time to hold in milliseconds. 1 if the mark is the holder's, else 0.
function run.begin(keys, arguments)
  if redis.call('SET', keys[1], arguments[1], 'NX', 'PX', arguments[2]) then
    return 1
  end
  if redis.call('GET', keys[1]) == arguments[1] then
    redis.call('PEXPIRE', keys[1], arguments[2])
    return 1
  end
  return 0
end

-- Removes the mark of a refresh in flight, unless it ran out and is somebody else's by now.
--
-- Keys: attempt. Arguments: holder. Returns how many marks were removed.
function run.finish(keys, arguments)
  if redis.call('GET', keys[1]) == arguments[1] then
    return redis.call('DEL', keys[1])
  end
  return 0
end

local key, argument, answers = 0, 0, {}
local function take(from, after, count)
  local taken = {}
  for index = 1, count do
    taken[index] = from[after + index]
  end
  return taken
end
while argument < #ARGV do
  local command = ARGV[argument + 1]
  local keys = take(KEYS, key, tonumber(ARGV[argument + 2]))
  local arguments = take(ARGV, argument + 3, tonumber(ARGV[argument + 3]))
  key, argument = key + #keys, argument + 3 + #arguments
  local is_done, answer = pcall(run[command], keys, arguments)
  if is_done then
    answers[#answers + 1] = answer
  else
    -- Redis 7 gives a table, earlier ones a text.
    answers[#answers + 1] = type(answer) == 'table' and answer.err or tostring(answer)
  end
end
return answers
