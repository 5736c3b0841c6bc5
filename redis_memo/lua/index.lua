-- Prelude to the scripts that keep a function's index; not a script of its own.
--   index  zset  member = digest of the call (40 hex)
--                score  = when the entry expires, ms of the server's clock; negative: only a lease stands so far
--   args   zset  all scores 0, ordered by bytes, so that a range by prefix answers
--                't' token digest    which calls have this argument?   (token: 8 bytes)
--                'd' digest tokens   which arguments has this call?
--                'k' digest stamp    when was the key of this call noted? (stamp: 16 digits, microseconds)
--                'o' stamp digest key   the keys of a mapping, in the order of their insertion

local function starting_with(args, prefix, limit)
  -- What follows a prefix is never the byte 255: digests are hex and token rows are found by whole tokens.
  return redis.call('ZRANGEBYLEX', args, '[' .. prefix, '(' .. prefix .. '\255', 'LIMIT', 0, limit)
end

local ROWS = 1000 -- noted at once: what Lua can hand over has an end

local function note_rows(args, digest, tokens)
  local rows = {0, 'd' .. digest .. tokens}
  for at = 1, #tokens, TOKEN do
    if #rows >= 2 * ROWS then
      redis.call('ZADD', args, unpack(rows))
      rows = {}
    end
    rows[#rows + 1] = 0
    rows[#rows + 1] = 't' .. string.sub(tokens, at, at + TOKEN - 1) .. digest
  end
  redis.call('ZADD', args, unpack(rows))
end

-- Returns whether nothing was listed before. `noted`: its rows of arguments stand already.
local function list(index, args, digest, tokens, score, only_new, noted)
  local first = check_index(index)
  if first then redis.call('PERSIST', sizes_of(index)) end
  if only_new then
    redis.call('ZADD', index, 'NX', score, digest)
  else
    redis.call('ZADD', index, score, digest)
  end
  if #tokens > 0 and not noted then note_rows(args, digest, tokens) end
  return first
end

-- Returns whether the row `but`, which is not forgotten, is there, and all that it is found by: the rows of several have
-- tokens in common.
local function forget_rows(args, digest, but)
  local found, others = false, false
  -- A token may begin with byte 255, so these rows are bounded by the next digest instead.
  local row = 'd' .. digest
  for _, member in ipairs(redis.call('ZRANGEBYLEX', args, '[' .. row, '[' .. row .. string.rep('\255', 1024))) do
    if member == but then
      found = true
    else
      for at = #row + 1, #member, TOKEN do
        redis.call('ZREM', args, 't' .. string.sub(member, at, at + TOKEN - 1) .. digest)
      end
      redis.call('ZREM', args, member)
      others = true
    end
  end
  return found and not others
end

-- Takes a key out of the order of its mapping; returns it.
local function forget_key(args, digest)
  local noted = starting_with(args, 'k' .. digest, 1)[1]
  if not noted then return end
  local row = 'o' .. string.sub(noted, -STAMP) .. digest
  local found = starting_with(args, row, 1)[1]
  redis.call('ZREM', args, noted, found or row)
  return found and string.sub(found, #row + 1)
end

-- Notes a key as the last of its mapping, or as the first. Stamps differ also where the clock stands still or goes back.
local function note_key(args, digest, key, first)
  local time = redis.call('TIME')
  local stamp = time[1] * 1000000 + time[2]
  if first then
    local next = redis.call('ZRANGEBYLEX', args, '[o', '(o\255', 'LIMIT', 0, 1)[1]
    if next then stamp = string.sub(next, 2, STAMP + 1) - 1 end
  else
    local last = redis.call('ZREVRANGEBYLEX', args, '(o\255', '[o', 'LIMIT', 0, 1)[1]
    if last then stamp = math.max(stamp, string.sub(last, 2, STAMP + 1) + 1) end
  end
  local digits = string.format('%016.0f', stamp)
  redis.call('ZADD', args, 0, 'k' .. digest .. digits, 0, 'o' .. digits .. digest .. key)
end

local function unlist(index, args, digest)
  untrack(index, digest)
  redis.call('ZREM', index, digest)
  forget_rows(args, digest)
  forget_key(args, digest)
end

-- Lists what was stored; returns as `list`. `key`: what a mapping returns for it when iterated over, or ''.
local function relist(index, args, digest, tokens, now, ms, key)
  if key ~= '' then
    -- As in a dict: a key that stands keeps its place and its first form (1 and 1.0), one that had expired is new.
    if (tonumber(redis.call('ZSCORE', index, digest) or 0)) <= now then forget_key(args, digest) end
    if #starting_with(args, 'k' .. digest, 1) == 0 then note_key(args, digest, key) end
  end
  -- The tags of an older value, and those that the computation did not know yet, are no longer true.
  local noted = forget_rows(args, digest, 'd' .. digest .. tokens)
  return list(index, args, digest, tokens, now + ms, false, noted)
end

local function tell_filled(entry, envelope)
  redis.call('PUBLISH', entry, 0 < #envelope and #envelope <= CARRIED and 'filled:' .. envelope or 'filled')
end

-- An entry that is gone: its call is listed only while somebody computes it. False where nobody can tell on this node.
local function leave(index, args, name, now)
  local digest = digest_of(name)
  local leased = redis.pcall('EXISTS', name .. ':lease')
  if elsewhere(leased) then return false end
  if leased == 1 then
    untrack(index, digest)
    redis.call('ZADD', index, -now - 60000, digest)
  else
    unlist(index, args, digest)
  end
  return true
end

-- Entries expire and leases end without telling the index, so each write looks at a few that should be gone.
-- A lease is renewed without touching the index, hence the look before anything is unlisted.
local function sweep(entry, index, args, now)
  local function look(digests)
    for _, digest in ipairs(digests) do
      local name = prefix_of(entry) .. digest
      local left = redis.pcall('PTTL', name)
      if elsewhere(left) then return end
      if left > 0 then
        redis.call('ZADD', index, now + left, digest)
      else
        leave(index, args, name, now)
      end
    end
  end
  look(redis.call('ZRANGEBYSCORE', index, 0, now, 'LIMIT', 0, SWEEP))
  look(redis.call('ZREVRANGEBYSCORE', index, '(0', -now, 'LIMIT', 0, SWEEP))
end

-- What the server evicts by itself it does not tell either: each write looks at those that are next, and at some others.
local function probe(prefix, index, args, now)
  local uses = uses_of(index)
  local function look(from)
    for _, digest in ipairs(redis.call('ZRANGE', uses, from, from + PROBED - 1)) do
      if redis.pcall('EXISTS', prefix .. digest) == 0 then leave(index, args, prefix .. digest, now) end
    end
  end
  look(0)
  look(math.floor(redis.call('TIME')[2] * 0.61803398875 * 1000) % math.max(redis.call('ZCARD', uses), 1))
end

-- Evicts the next one, unless that is `keep`; returns how many entries went, and how many bytes, or nil.
local function evict_next(prefix, index, args, kind, now, keep)
  local uses, sizes = uses_of(index), sizes_of(index)
  local lowest = redis.call('ZRANGE', uses, 0, 1, 'WITHSCORES')
  local at = lowest[1] == keep and 3 or 1
  local digest = lowest[at]
  if not digest then return nil end
  local bytes = tonumber(string.match(redis.call('HGET', sizes, digest) or '0', '^%d+'))
  local gone = delete_another(prefix .. digest)
  if not gone then return nil end
  if kind == 'worth' then redis.call('HSET', sizes, '#floor', lowest[at + 1]) end
  redis.call('HINCRBY', sizes, '#evicted', 1)
  if not leave(index, args, prefix .. digest, now) then return nil end
  return gone, bytes
end

-- Evicts until the bounds hold, EVICTED at most; a bound of 0 is none. Returns how many entries went.
-- What was stored just now is not a candidate: whoever asked for it is about to read it.
local function keep_within(prefix, index, args, maxsize, maxbytes, kind, now, keep)
  local uses, sizes = uses_of(index), sizes_of(index)
  local total = 0
  for _ = 1, EVICTED do
    local over = maxsize > 0 and redis.call('ZCARD', uses) > maxsize
      or maxbytes > 0 and tonumber(redis.call('HGET', sizes, '#bytes')) > maxbytes
    if not over then break end
    local gone = evict_next(prefix, index, args, kind, now, keep)
    if not gone then break end
    total = total + gone
  end
  return total
end

-- What a writer does when its entry is listed; `wanted` is the kind, '' for no bounds.
-- Returns {entries evicted, 1 if the caller is to mend, entries ever evicted}, or nil where nothing is bounded.
local function bound(entry, index, args, now, maxsize, maxbytes, wanted)
  local kind = kept_kind(index, wanted, now)
  if not kind then return nil end
  track(index, entry, kind, now)
  if wanted == '' then return nil end
  probe(prefix_of(entry), index, args, now)
  local gone = keep_within(
    prefix_of(entry), index, args, tonumber(maxsize), tonumber(maxbytes), kind, now, digest_of(entry))
  return {gone, to_mend(index, now), evicted_ever(index)}
end

-- Lists an entry that nothing tells of any more.
local function adopt(entry, index, args, kind, now, used)
  local left = redis.pcall('PTTL', entry)
  if elsewhere(left) or left <= 0 then return end
  list(index, args, digest_of(entry), tokens_of(entry), now + left, false)
  track(index, entry, kind, now, used)
end
