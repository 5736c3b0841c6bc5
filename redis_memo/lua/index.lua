-- Prelude to the scripts that keep a function's index; not a script of its own.
--   index  zset  member = digest of the call (40 hex)
--                score  = when the entry expires, ms of the server's clock; negative: only a lease stands so far
--   args   zset  all scores 0, ordered by bytes, so that a range by prefix answers
--                't' token digest    which calls have this argument?   (token: 8 bytes)
--                'd' digest tokens   which arguments has this call?
-- Entry and lease are named from prefix and digest; the hash tag in the prefix keeps them all in one slot.

-- A lease that reads RESTING is nobody's: its last holder failed, and the entry is to be served as it is for a while.

local DIGEST, TOKEN, SWEEP = 40, 8, 10
local HEAD = 60 -- of an envelope, the digest of all of it included
local RESTING = 'resting'
local CARRIED = 65536 -- bytes up to which those who wait are sent the entry itself

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function digest_of(entry) return string.sub(entry, -DIGEST) end
local function prefix_of(entry) return string.sub(entry, 1, -DIGEST - 1) end

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
  redis.call('PUBLISH', entry, #envelope <= CARRIED and 'filled:' .. envelope or 'filled')
end

-- Entries expire and leases end without telling the index, so each write looks at a few that should be gone.
-- A lease is renewed without touching the index, hence the look before anything is unlisted.
local function sweep(entry, index, args, now)
  local function look(digests)
    for _, digest in ipairs(digests) do
      local name = prefix_of(entry) .. digest
      local left = redis.call('PTTL', name)
      if left > 0 then
        redis.call('ZADD', index, now + left, digest)
      elseif redis.call('EXISTS', name .. ':lease') == 1 then
        redis.call('ZADD', index, -now - 60000, digest)
      else
        unlist(index, args, digest)
      end
    end
  end
  look(redis.call('ZRANGEBYSCORE', index, 0, now, 'LIMIT', 0, SWEEP))
  look(redis.call('ZREVRANGEBYSCORE', index, '(0', -now, 'LIMIT', 0, SWEEP))
end
