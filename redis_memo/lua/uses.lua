-- Prelude to the scripts that keep a function's bounds; not a script of its own.
--   uses   zset  member = digest of an entry
--                score  = kind 'lru': when it was last used, us of the server's clock, no two alike
--                         kind 'worth': what it is worth; the lowest goes first
--   sizes  hash  digest -> 'lru': bytes | 'worth': bytes seconds uses used; and of the whole:
--                '#bytes' their sum, '#clock' the last use, '#floor' worth of the last one evicted,
--                '#mend' 0 where every entry is in here, else when somebody last set about finding the others, ms;
--                '#kind', '#since' when all this was begun, ms, and '#evicted', which counts those that went
-- Both hold the entries of the index, no more and no less. Where one of the three was lost (evicted, deleted), the other
-- two are dropped and all is begun anew: `mend` finds the entries.

local FIXED = 7 -- fields of the whole
local EVICTED = 100 -- entries evicted by one run at most, lest it hold up the server
local CLAIMED = 30000 -- ms after which who set about mending has died
local SETTLED = 60000 -- ms between changes of kind, lest two releases of a service take turns
local PROBED = 4
local IDLE = 3600000 -- ms; forgotten at once, all keys would be looked through for entries when the next one is stored

local function uses_of(index) return string.sub(index, 1, -6) .. 'uses' end
local function sizes_of(index) return string.sub(index, 1, -6) .. 'sizes' end

-- To be called before a script writes anything: while a slot moves, the script ends here unless these two, which it was
-- not given, are on its node as well. (Of a function without bounds there are none, and so none is on its node.)
-- Returns how many of them there are.
local function all_here(index) return redis.call('EXISTS', uses_of(index), sizes_of(index)) end

-- What is kept of a function that has nothing listed ends by itself, unless something is (see `list`).
local function leave_nothing(index)
  if redis.pcall('EXISTS', index) ~= 0 then return end -- of a slot that moves, nobody can tell once the key is gone
  redis.pcall('PEXPIRE', uses_of(index), IDLE)
  redis.pcall('PEXPIRE', sizes_of(index), IDLE)
end

local function untrack(index, digest)
  local sizes = sizes_of(index)
  local size = redis.call('HGET', sizes, digest)
  if not size then return end
  redis.call('HDEL', sizes, digest)
  redis.call('HINCRBY', sizes, '#bytes', 0 - tonumber(string.match(size, '^%d+'))) -- not -0, which Redis 6 refuses
  redis.call('ZREM', uses_of(index), digest)
end

-- What is kept goes with an index that was lost; called before anything is listed.
local function check_index(index)
  if redis.call('EXISTS', index) == 1 then return false end
  if redis.call('HLEN', sizes_of(index)) > FIXED then
    redis.call('UNLINK', uses_of(index), sizes_of(index))
  end
  return true
end

-- The kind that is kept, or nil where there are no bounds; begun where it was lost, or is new.
local function kept_kind(index, kind, now)
  local uses, sizes = uses_of(index), sizes_of(index)
  local members, fields = redis.call('ZCARD', uses), redis.call('HLEN', sizes)
  if fields == members + FIXED then
    local kept = redis.call('HMGET', sizes, '#kind', '#since')
    if kind == '' or kept[1] == kind or now - tonumber(kept[2]) < SETTLED then return kept[1] end
  elseif kind == '' and fields + members == 0 then
    return nil
  end
  redis.call('UNLINK', uses, sizes)
  if kind == '' then return nil end
  redis.call('HSET', sizes, '#bytes', 0, '#clock', 0, '#floor', 0, '#mend', 1, '#kind', kind, '#since', now,
    '#evicted', now) -- another number than before, so that all is told once more
  return kind
end

-- The last of `number` moments, each later than all before; those of two hosts need not agree on anything.
local function moments(sizes, now, number)
  local clock = math.max(tonumber(redis.call('HGET', sizes, '#clock')), now * 1000) + number
  redis.call('HSET', sizes, '#clock', string.format('%.0f', clock))
  return clock
end

-- GreedyDual-Size (Cao, Irani 1997) with the number of uses (GDSF, Cherkasova 1998): microseconds saved per byte, above
-- the worth of the last one evicted, so that what is not used any more is overtaken.
local function worth(sizes, bytes, seconds, count)
  return tonumber(redis.call('HGET', sizes, '#floor')) + count * seconds * 1e6 / math.max(bytes, 1)
end

local function note_worth(index, digest, bytes, seconds, count, used)
  local sizes = sizes_of(index)
  redis.call('HSET', sizes, digest, string.format('%.0f %.6f %.0f %.0f', bytes, seconds, count, used))
  redis.call('ZADD', uses_of(index), string.format('%.17g', worth(sizes, bytes, seconds, count)), digest)
end

-- Counts an entry that was stored, or found; `used` is when it was used, if not now.
local function track(index, entry, kind, now, used)
  local digest, sizes = digest_of(entry), sizes_of(index)
  local bytes, seconds = measured(entry, kind == 'worth')
  local old = redis.call('HGET', sizes, digest)
  used = used or moments(sizes, now, 1)
  if kind == 'worth' then
    local count = old and tonumber(string.match(old, '^%d+ %S+ (%d+)')) or 0
    note_worth(index, digest, bytes, seconds, count + 1, used)
  else
    redis.call('HSET', sizes, digest, bytes)
    redis.call('ZADD', uses_of(index), string.format('%.0f', used), digest)
  end
  redis.call('HINCRBY', sizes, '#bytes', bytes - (old and tonumber(string.match(old, '^%d+')) or 0))
end

-- When the entry that goes next was used last; -1 where there is none.
local function next_used(index)
  local lowest = redis.call('ZRANGE', uses_of(index), 0, 0, 'WITHSCORES')
  if not lowest[1] then return -1 end
  local used = string.match(redis.call('HGET', sizes_of(index), lowest[1]) or '', '(%d+)$')
  return redis.call('HGET', sizes_of(index), '#kind') == 'worth' and tonumber(used) or tonumber(lowest[2])
end

-- How many went, by which a process knows how old what it told has become.
local function evicted_ever(index) return tonumber(redis.call('HGET', sizes_of(index), '#evicted')) end

-- Whether the caller is the one to look for entries that are not in here.
local function to_mend(index, now)
  local sizes = sizes_of(index)
  local claimed = tonumber(redis.call('HGET', sizes, '#mend'))
  if claimed == 0 or now - claimed < CLAIMED then return 0 end
  redis.call('HSET', sizes, '#mend', now)
  return 1
end
