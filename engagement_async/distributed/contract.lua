-- One exchange between a process and the contract that it shares with others: what it gives back, and what it is granted.
--
-- The rule is the ledger's (engagement_async/_core/rate_limit.py), with this server's clock as the only one. A request that
-- is granted for an instant t counts from the exchange on until one window after its response was reported; a grant for t
-- needs fewer than N of them: those that are out, and those whose response was reported after t - W. Instants may lie a
-- little ahead, so that one exchange grants several.
--
-- KEYS: state, owners, expiry, due, turns, answered (all), answered by endpoint in the order of request.endpoints.
--   state     what follows, as one MessagePack value; without a time to live, for a missing one means a lost contract
--   owners    owner -> {n, out, pass, quarantine, reply}: what a process has out, and its last exchange
--   expiry    owner -> when it counts as gone, unless it is heard of before
--   due       owner -> when a process that waits will be here again; turns: owner -> its pass value
--   answered  one member a request -> when its response was reported
-- ARGV[1]: the request, as MessagePack. Returns the reply, as MessagePack.

local STATE, OWNERS, EXPIRY, DUE, TURNS, ALL = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local GRACE_S, TURN_S, RECOVERY_S, RECOVERY_INTERVAL_S = 0.05, 0.005, 2.0, 0.01

local request = cmsgpack.unpack(ARGV[1])
local answered = {[''] = ALL}
for index, endpoint in ipairs(request.endpoints) do
  answered[endpoint] = KEYS[6 + index]
end

local mine = redis.call('HGET', OWNERS, request.owner)
mine = mine and cmsgpack.unpack(mine) or nil

-- The clock never goes back, also when that of another server takes over.
local time = redis.call('TIME')
local clock = tonumber(time[1]) + tonumber(time[2]) / 1e6
-- A server that was restarted has another run id; one that took over from another has another replication id.
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  .. ' ' .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')

local state = redis.call('GET', STATE)
state = state and cmsgpack.unpack(state) or nil

local function is_whole()
  if not state or state.server ~= server then
    return false
  end
  if redis.call('HLEN', OWNERS) ~= state.owners or redis.call('ZCARD', EXPIRY) ~= state.owners then
    return false
  end
  for endpoint, key in pairs(answered) do
    if redis.call('ZCARD', key) ~= (state.cards[endpoint] or 0) then
      return false
    end
  end
  return true
end

local ledger_name = request.owner .. ' ' .. request.n -- that no other ledger has

-- Lost: flushed, evicted, restarted, or taken over by a replica that may lack the last writes.
local is_lost = not is_whole()
if mine and request.n < mine.n then
  return mine.reply -- late: it was sent again, by another connection, and what followed it is here already
end
if mine and mine.n == request.n and not is_lost then
  return mine.reply -- sent again, because the reply did not arrive
end
if is_lost then
  state = state or {
    now = 0, ahead = 0, counter = 0, generation = 0, longest = 0, virtual_time = 0,
    held_until = 0, not_before = 0, recovers_at = 0, paced = {}, least_paced = {}, caps = {},
  }
  state.server = server
  state.cards = {}
  for endpoint, key in pairs(answered) do
    state.cards[endpoint] = redis.call('ZCARD', key)
  end
  state.out = {}
  state.owners = 0
  for _, packed in ipairs(redis.call('HVALS', OWNERS)) do
    state.owners = state.owners + 1
    for endpoint, count in pairs(cmsgpack.unpack(packed).out) do
      state.out[endpoint] = (state.out[endpoint] or 0) + count
    end
  end
  state.complete_from = false
end
state.ahead = math.max(state.ahead, state.now - clock)
local now = clock + state.ahead
state.now = now
if is_lost then
  state.name = ledger_name -- of this ledger, which does not know what one before it knew
  state.complete_from = now -- nothing is known of what was spent before: each limit waits for one window
  for _, name in ipairs(redis.call('HKEYS', OWNERS)) do
    redis.call('ZADD', EXPIRY, 'NX', now + request.lives, name)
  end
elseif request.longest > state.longest then
  state.complete_from = math.max(state.complete_from, now - state.longest)
end
state.longest = math.max(state.longest, request.longest)
state.name = state.name or ledger_name -- an older version gave it none

-- What happened ---------------------------------------------------------------------------------------------------------

local function add_answered(endpoint, at, count)
  for _ = 1, count do
    state.counter = state.counter + 1
    redis.call('ZADD', ALL, at, state.counter)
    if endpoint ~= '' then
      redis.call('ZADD', answered[endpoint], at, state.counter)
      state.cards[endpoint] = (state.cards[endpoint] or 0) + 1
    end
  end
  state.cards[''] = (state.cards[''] or 0) + count
end

local function change_out(owner, endpoint, change)
  change = math.max(change, -(owner.out[endpoint] or 0))
  owner.out[endpoint] = (owner.out[endpoint] or 0) + change
  state.out[endpoint] = (state.out[endpoint] or 0) + change
end

local function remove(name, owner)
  for endpoint, count in pairs(owner.out) do
    add_answered(endpoint, now + owner.quarantine, count) -- aborted now, and may arrive for so long
    state.out[endpoint] = (state.out[endpoint] or 0) - count
  end
  redis.call('HDEL', OWNERS, name)
  for _, key in ipairs({EXPIRY, DUE, TURNS}) do
    redis.call('ZREM', key, name)
  end
end

local function counts(limit, endpoint)
  return limit.endpoint == '' or limit.endpoint == endpoint
end

for _, name in ipairs(redis.call('ZRANGEBYSCORE', EXPIRY, '-inf', now)) do
  local gone = redis.call('HGET', OWNERS, name)
  if gone then
    remove(name, cmsgpack.unpack(gone))
  end
  if name == request.owner then
    mine = nil
  end
end
for endpoint, key in pairs(answered) do
  local gone = redis.call('ZREMRANGEBYSCORE', key, '-inf', now - state.longest)
  state.cards[endpoint] = (state.cards[endpoint] or 0) - gone
end
for key, caps in pairs(state.caps) do
  local kept = {}
  for _, cap in ipairs(caps) do
    if cap.till > now then
      kept[#kept + 1] = cap
    end
  end
  state.caps[key] = #kept > 0 and kept or nil
end

if not mine or mine.n ~= request.n - 1 then -- a new process, or one that was forgotten: it says itself what it has out
  for endpoint, count in pairs(mine and mine.out or {}) do
    change_out(mine, endpoint, -count)
  end
  mine = {out = {}, pass = state.virtual_time}
  for endpoint, count in pairs(request.out) do
    change_out(mine, endpoint, count)
  end
end
mine.n = request.n
mine.quarantine = request.quarantine

local happened = {}

function happened.settle(endpoint, count)
  change_out(mine, endpoint, -count)
  add_answered(endpoint, now, count)
end

function happened.abandon(endpoint, count, within)
  change_out(mine, endpoint, -count)
  add_answered(endpoint, now + within, count)
end

function happened.refund(endpoint, count, generation)
  change_out(mine, endpoint, -count)
  for _, limit in ipairs(request.limits) do
    if counts(limit, endpoint) then
      local paced = (state.paced[limit.key] or 0) - count * limit.interval
      state.paced[limit.key] = math.max(paced, state.least_paced[limit.key] or 0)
      for _, cap in ipairs(state.caps[limit.key] or {}) do
        if cap.generation <= generation then
          cap.remaining = cap.remaining + count
        end
      end
    end
  end
end

function happened.hold(seconds)
  local at = now + seconds
  if at <= state.held_until then
    return
  end
  state.held_until = at
  state.not_before = math.max(state.not_before, at)
  state.recovers_at = at + RECOVERY_S
  for _, limit in ipairs(request.limits) do
    local least = math.max(state.least_paced[limit.key] or 0, at + limit.burst)
    state.least_paced[limit.key] = least
    state.paced[limit.key] = math.max(state.paced[limit.key] or 0, least)
  end
end

function happened.cap(index, remaining, seconds)
  local key = request.limits[index].key
  state.generation = state.generation + 1
  local caps = state.caps[key] or {}
  caps[#caps + 1] = {till = now + seconds, remaining = remaining, generation = state.generation}
  state.caps[key] = caps
end

-- A process saw this server's clock run ahead of its own: windows may have been shorter than they should be.
function happened.doubt()
  state.complete_from = now
end

-- Which ledger knows of the requests that follow: they count if it is another one.
local known_by = ''

function happened.known_by(ledger)
  known_by = ledger
end

function happened.earlier(endpoint, count, age)
  if state.name ~= known_by then
    add_answered(endpoint, now - age, count)
  end
end

for _, event in ipairs(request.events) do
  happened[event[1]](event[2], event[3], event[4])
end

-- What is granted -------------------------------------------------------------------------------------------------------

local function out_of(limit)
  if limit.endpoint ~= '' then
    return state.out[limit.endpoint] or 0
  end
  local total = 0
  for _, count in pairs(state.out) do
    total = total + count
  end
  return total
end

-- The earliest instant for which one more may be granted; nil while only a response can help.
local function ready_at(endpoint)
  local at = math.max(now, state.not_before)
  for _, limit in ipairs(request.limits) do
    if counts(limit, endpoint) then
      at = math.max(at, state.complete_from + limit.window, (state.paced[limit.key] or 0) - limit.burst)
      for _, cap in ipairs(state.caps[limit.key] or {}) do
        if cap.remaining <= 0 then
          at = math.max(at, cap.till)
        end
      end
      local room = limit.requests - 1 - out_of(limit)
      if room < 0 then
        return nil
      end
      local last = redis.call('ZREVRANGE', answered[limit.endpoint], room, room, 'WITHSCORES')
      if last[2] then
        at = math.max(at, tonumber(last[2]) + limit.window)
      end
    end
  end
  return at
end

local function grant(endpoint, at)
  change_out(mine, endpoint, 1)
  for _, limit in ipairs(request.limits) do
    if counts(limit, endpoint) then
      state.paced[limit.key] = math.max(state.paced[limit.key] or 0, at) + limit.interval
      for _, cap in ipairs(state.caps[limit.key] or {}) do
        cap.remaining = cap.remaining - 1
      end
    end
  end
  if at < state.recovers_at then
    state.not_before = at + RECOVERY_INTERVAL_S
  end
  state.virtual_time = math.max(state.virtual_time, mine.pass)
  mine.pass = mine.pass + 1
end

-- The pass value of the one who waits and was served least, and when it will be here; those who are late have lost their turn.
local function least_served()
  local waiting = redis.call('ZRANGE', TURNS, 0, -1, 'WITHSCORES')
  for index = 1, #waiting, 2 do
    if waiting[index] ~= request.owner then
      local due = tonumber(redis.call('ZSCORE', DUE, waiting[index]) or 0)
      if due + GRACE_S >= now then
        return tonumber(waiting[index + 1]), due
      end
    end
  end
  return math.huge, now
end

if not redis.call('ZSCORE', TURNS, request.owner) then
  mine.pass = math.max(mine.pass, state.virtual_time) -- an idle process earns no credit
end
local least, due = least_served()
local ahead = math.max(1, math.floor(request.share / (redis.call('ZCARD', TURNS) + 1)))
local granted, is_next, next_at, ready_in = {}, false, math.huge, math.huge
for _, want in ipairs(request.wants) do
  local endpoint, count = want[1], want[2]
  while count > 0 do
    local at = ready_at(endpoint)
    if not at then
      break
    end
    ready_in = math.min(ready_in, at - now)
    if at > now + request.horizon then
      is_next = is_next or at <= now + 2 * request.horizon
      next_at = math.min(next_at, at - request.horizon / 2)
      break
    end
    if mine.pass >= least + ahead then -- another one's turn
      is_next = true
      next_at = math.min(next_at, math.max(due, now) + TURN_S)
      break
    end
    ready_in = math.huge
    grant(endpoint, at)
    granted[#granted + 1] = {endpoint, at - now}
    count = count - 1
  end
end
local next_in = math.max(0.002, math.min(next_at - now, request.poll))
if is_next then
  redis.call('ZADD', TURNS, mine.pass, request.owner)
  redis.call('ZADD', DUE, now + next_in, request.owner)
else
  redis.call('ZREM', TURNS, request.owner)
  redis.call('ZREM', DUE, request.owner)
end

-- The reply -------------------------------------------------------------------------------------------------------------

local available, capped, complete_in = {}, 0, 0
for index, limit in ipairs(request.limits) do
  local left = limit.requests - out_of(limit)
    - redis.call('ZCOUNT', answered[limit.endpoint], '(' .. string.format('%.17g', now - limit.window), '+inf')
  for _, cap in ipairs(state.caps[limit.key] or {}) do
    left = math.min(left, cap.remaining)
    if cap.remaining <= 0 then
      capped = math.max(capped, cap.till - now)
    end
  end
  local wait = state.complete_from + limit.window - now
  complete_in = math.max(complete_in, wait)
  available[index] = wait > 0 and 0 or math.max(0, left)
end
local reply = cmsgpack.pack({
  now = now,
  name = state.name,
  granted = granted,
  available = available,
  next_in = next_in,
  ready_in = ready_in < math.huge and ready_in or -1,
  held = math.max(0, state.held_until - now),
  capped = capped,
  complete_in = complete_in,
  generation = state.generation,
  owners = redis.call('HLEN', OWNERS) + (redis.call('HEXISTS', OWNERS, request.owner) == 1 and 0 or 1),
  is_lost = is_lost,
})
if request.leaves then
  redis.call('HSET', OWNERS, request.owner, cmsgpack.pack(mine))
  remove(request.owner, mine)
else
  mine.reply = reply
  redis.call('HSET', OWNERS, request.owner, cmsgpack.pack(mine))
  redis.call('ZADD', EXPIRY, now + request.lives, request.owner)
end
state.owners = redis.call('HLEN', OWNERS)
redis.call('SET', STATE, cmsgpack.pack(state))
return reply
