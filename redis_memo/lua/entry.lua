-- Prelude to the scripts that handle entries: their names, chunks and sizes; not a script of its own.
-- Entry and lease are named from prefix and digest; the hash tag in the prefix keeps them all in one slot.
-- A lease that reads RESTING is nobody's: its last holder failed, and the entry is to be served as it is for a while.

local DIGEST, TOKEN, STAMP, SWEEP = 40, 8, 16, 10
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

-- Of a slot that moves from node to node, chunks and other calls' entries may have gone ahead of the keys that a script
-- names: asking for them is an error then, which must not end the script half way (pcall).
local function elsewhere(answer) return type(answer) == 'table' and answer.err ~= nil end

local function each_chunk(name, entry, act)
  local head = redis.pcall('GETRANGE', name, 0, HEAD - 1)
  if elsewhere(head) or #head < HEAD or string.sub(head, 1, 4) ~= 'RMEM' then return end
  local a, b, c, d = string.byte(head, 13, 16)
  local count = a + 256 * (b + 256 * (c + 256 * d))
  if count == 0 or count > MOST_CHUNKS then return end
  local tag = string.gsub(string.sub(head, 49, 64), '.', function(byte)
    return string.format('%02x', string.byte(byte))
  end)
  for number = 0, count - 1 do act(entry .. ':' .. tag .. ':' .. number) end
end

local function unlink(key) redis.pcall('UNLINK', key) end

local function delete(entry)
  each_chunk(entry, entry, unlink)
  return redis.call('UNLINK', entry)
end

-- The same of an entry that the script was not given; nil where it lies on another node by now.
local function delete_another(entry)
  each_chunk(entry, entry, unlink)
  local gone = redis.pcall('UNLINK', entry)
  return not elsewhere(gone) and gone or nil
end

-- Bytes of a stored value, and the seconds that computing it took, which stand in its head.
local function measured(entry, timed)
  local bytes, seconds = redis.call('STRLEN', entry), 0
  each_chunk(entry, entry, function(chunk)
    local length = redis.pcall('STRLEN', chunk)
    if not elsewhere(length) then bytes = bytes + length end
  end)
  local unpacks = rawget(_G, 'struct') -- not in fakeredis, where all are worth the same
  if timed and unpacks and bytes >= HEAD and redis.call('GETRANGE', entry, 0, 3) == 'RMEM' then
    seconds = unpacks.unpack('<d', redis.call('GETRANGE', entry, 24, 31))
  end
  return bytes, seconds
end

-- The tokens that an entry is found by stand in it too.
local function tokens_of(entry)
  local head = redis.call('GETRANGE', entry, 0, HEAD - 1)
  if #head < HEAD or string.sub(head, 1, 4) ~= 'RMEM' then return '' end
  local low, high = string.byte(head, 7, 8)
  local length = low + 256 * high
  return length == 0 and '' or redis.call('GETRANGE', entry, HEAD, HEAD + length - 1)
end

-- Length and head of an entry: the head holds a digest of it all.
local function identity_of(entry)
  return redis.call('STRLEN', entry) .. ':' .. redis.call('GETRANGE', entry, 0, HEAD - 1)
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
