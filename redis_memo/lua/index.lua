-- Prelude to the scripts that keep a function's index; not a script of its own.
--   index  zset  member = digest of the call (40 hex)
--                score  = when the entry expires, ms of the server's clock; negative: only a lease stands so far
--   args   zset  all scores 0, ordered by bytes, so that a range by prefix answers
--                't' token digest    which calls have this argument?   (token: 8 bytes)
--                'd' digest tokens   which arguments has this call?
-- Entry and lease are named from prefix and digest; the hash tag in the prefix keeps them all in one slot.

-- A lease that reads RESTING is nobody's: its last holder failed, and the entry is to be served as it is for a while.

local DIGEST, TOKEN, SWEEP = 40, 8, 10
local HEAD = 64 -- bytes of an envelope, the digest of all of it included
local RESTING = 'resting'
local CARRIED = 65536 -- bytes up to which those who wait are sent the entry itself

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function digest_of(entry) return string.sub(entry, -DIGEST) end
local function prefix_of(entry) return string.sub(entry, 1, -DIGEST - 1) end

-- A value too large for one string has chunks beside its entry, named by the entry's tag (see `_envelope`). They are
-- deleted with it; a chunk whose entry was evicted or lost ends by its own expiry.
local MOST_CHUNKS = 4096

local function each_chunk(name, entry, act)
  local head = redis.call('GETRANGE', name, 0, HEAD - 1)
  if #head < HEAD or string.sub(head, 1, 4) ~= 'RMEM' then return end
  local a, b, c, d = string.byte(head, 13, 16)
  local count = a + 256 * (b + 256 * (c + 256 * d))
  if count == 0 or count > MOST_CHUNKS then return end
  local tag = string.gsub(string.sub(head, 49, 64), '.', function(byte)
    return string.format('%02x', string.byte(byte))
  end)
  for number = 0, count - 1 do act(entry .. ':' .. tag .. ':' .. number) end
end

-- Of a slot that moves from node to node, chunks and other calls' entries may have gone ahead of the keys that a script
-- names: asking for them is an error then, which must not end the script half way (pcall).
local function unlink(key) redis.pcall('UNLINK', key) end

local function delete(entry)
  each_chunk(entry, entry, unlink)
  return redis.call('UNLINK', entry)
end

local function same(one, other)
  return redis.call('GETRANGE', one, 0, HEAD - 1) == redis.call('GETRANGE', other, 0, HEAD - 1)
end

-- Deletes a large envelope that waits; but not its chunks where it was sent twice, and the first one was taken.
local function discard(waiting, entry)
  if not same(waiting, entry) then each_chunk(waiting, entry, unlink) end
  redis.call('UNLINK', waiting)
end

-- Stores an envelope; or, if it is large, gives the one that waits beside the entry the entry's name.
local function set(entry, envelope, ms, waiting)
  if not (waiting and same(waiting, entry)) then each_chunk(entry, entry, unlink) end
  if not waiting then
    redis.call('SET', entry, envelope, 'PX', ms)
    return
  end
  redis.call('RENAME', waiting, entry)
  redis.call('PEXPIRE', entry, ms)
  each_chunk(entry, entry, function(chunk) redis.pcall('PEXPIRE', chunk, ms) end)
end

local function starting_with(args, prefix, limit)
  -- What follows a prefix is never the byte 255: digests are hex and token rows are found by whole tokens.
  return redis.call('ZRANGEBYLEX', args, '[' .. prefix, '(' .. prefix .. '\255', 'LIMIT', 0, limit)
end

local function list(index, args, digest, tokens, score, only_new)
  if only_new then
    redis.call('ZADD', index, 'NX', score, digest)
  else
    redis.call('ZADD', index, score, digest)
  end
  if #tokens > 0 then
    redis.call('ZADD', args, 0, 'd' .. digest .. tokens)
    for at = 1, #tokens, TOKEN do
      redis.call('ZADD', args, 0, 't' .. string.sub(tokens, at, at + TOKEN - 1) .. digest)
    end
  end
end

local function forget_rows(args, digest, but)
  -- A token may begin with byte 255, so these rows are bounded by the next digest instead.
  local row = 'd' .. digest
  for _, member in ipairs(redis.call('ZRANGEBYLEX', args, '[' .. row, '[' .. row .. string.rep('\255', 1024))) do
    if member ~= but then
      for at = #row + 1, #member, TOKEN do
        redis.call('ZREM', args, 't' .. string.sub(member, at, at + TOKEN - 1) .. digest)
      end
      redis.call('ZREM', args, member)
    end
  end
end

local function unlist(index, args, digest)
  redis.call('ZREM', index, digest)
  forget_rows(args, digest)
end

local function relist(index, args, digest, tokens, score)
  -- The tags of an older value, and those that the computation did not know yet, are no longer true.
  forget_rows(args, digest, 'd' .. digest .. tokens)
  list(index, args, digest, tokens, score, false)
end

local function tell_filled(entry, envelope)
  redis.call('PUBLISH', entry, 0 < #envelope and #envelope <= CARRIED and 'filled:' .. envelope or 'filled')
end

-- Entries expire and leases end without telling the index, so each write looks at a few that should be gone.
-- A lease is renewed without touching the index, hence the look before anything is unlisted.
local function sweep(entry, index, args, now)
  local function look(digests)
    for _, digest in ipairs(digests) do
      local name = prefix_of(entry) .. digest
      local left = redis.pcall('PTTL', name)
      local leased = redis.pcall('EXISTS', name .. ':lease')
      if type(left) == 'table' or type(leased) == 'table' then return end
      if left > 0 then
        redis.call('ZADD', index, now + left, digest)
      elseif leased == 1 then
        redis.call('ZADD', index, -now - 60000, digest)
      else
        unlist(index, args, digest)
      end
    end
  end
  look(redis.call('ZRANGEBYSCORE', index, 0, now, 'LIMIT', 0, SWEEP))
  look(redis.call('ZREVRANGEBYSCORE', index, '(0', -now, 'LIMIT', 0, SWEEP))
end
