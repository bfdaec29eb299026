-- Reserves permits to call one operation of one account, in the order of asking, by this server's clock.
--
-- KEYS: the state (hash), the queue (sorted set: ticket to place), the leases (sorted set: ticket to the time at
--   which it counts as dead), the tickets that want more than one permit (hash: ticket to count).
-- ARGV: action, ticket, place, count, value, rate and burst of the usage plan, rate and burst that the caller's user
--   has set (or empty), permits that the caller has used without asking, seconds since its last call (or empty).
-- Returns: seconds until the ticket's permits are expected, the ticket's place, the rate at the moment, rate and
--   burst without a step down, tickets in the queue, permits taken.
local state, queue, leases, counts = unpack(KEYS)
local action, ticket = ARGV[1], ARGV[2]
local place, count, value = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local plan_rate, plan_burst = tonumber(ARGV[6]), tonumber(ARGV[7])
local set_rate, set_burst = tonumber(ARGV[8]), tonumber(ARGV[9])
local used, idle = tonumber(ARGV[10]), tonumber(ARGV[11])

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6

local NAMES = {
  'tokens', 'filled', 'rate', 'full', 'burst', 'stepped', 'paused', 'guess', 'learned', 'set_rate', 'set_burst',
  'set_until', 'last',
}
local s = {}
for index, text in ipairs(redis.call('HMGET', state, unpack(NAMES))) do
  s[NAMES[index]] = tonumber(text or '')
end

-- The slowest limit that a user has set lately, else the API's, else the usage plan's.
local function apply_limit()
  if s.set_until and s.set_until <= now then
    s.set_rate, s.set_burst, s.set_until = nil, nil, nil
  end
  if set_rate then
    local slower = not s.set_rate or set_rate < s.set_rate or (set_rate == s.set_rate and set_burst <= s.set_burst)
    if slower then
      s.set_rate, s.set_burst, s.set_until = set_rate, set_burst, now + SET_SECONDS
    end
  end
  local full, burst = s.set_rate or s.learned or plan_rate, s.set_burst or plan_burst
  if not s.full then
    s.rate = full
  elseif full ~= s.full or burst ~= s.burst then
    local stepped_down = s.rate < s.full and not s.set_rate
    s.rate = stepped_down and math.min(s.rate, full) or full
    s.tokens = math.min(s.tokens, burst)
  end
  s.full, s.burst = full, burst
end

local function after_pause(tokens, seconds)
  if seconds <= 0 then
    return tokens
  end
  -- At most one is gained, because the end of a pause does not promise a burst.
  return math.min(tokens + seconds * s.rate, math.max(tokens, 1))
end

-- The rate grows from what a 429 has left of it to the full one within RECOVERY permits' times.
local function growth()
  return s.full * s.full / RECOVERY
end

local function gained(seconds)
  local slow = math.min(math.max(s.full - s.rate, 0) / growth(), seconds)
  return s.rate * slow + growth() * slow * slow / 2 + s.full * (seconds - slow)
end

local function seconds_for(permits, rate)
  if permits <= 0 then
    return 0
  end
  local slow = math.max(s.full - rate, 0) / growth()
  local meanwhile = (rate + s.full) / 2 * slow
  if permits >= meanwhile then
    return slow + (permits - meanwhile) / s.full
  end
  return (math.sqrt(rate * rate + 2 * growth() * permits) - rate) / growth()
end

-- The clock may be put back, or that of another server may take over. What ends at a time must not last longer for it.
local function follow_clock()
  local back = s.filled - now
  if back <= 0 then
    return
  end
  s.filled = now
  for _, name in ipairs({'stepped', 'paused', 'set_until'}) do
    s[name] = s[name] and s[name] - back
  end
  for _, each in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    redis.call('ZINCRBY', leases, string.format('%.6f', -back), each)
  end
end

local function refill()
  local elapsed = now - s.filled
  local paused = math.min(math.max((s.paused or 0) - s.filled, 0), elapsed)
  s.tokens = after_pause(s.tokens, paused)
  s.rate = math.min(s.rate + growth() * paused, s.full)
  s.tokens = math.min(s.tokens + gained(elapsed - paused), s.burst)
  s.rate = math.min(s.rate + growth() * (elapsed - paused), s.full)
  s.filled = now
end

local function drop(gone)
  redis.call('ZREM', queue, gone)
  redis.call('ZREM', leases, gone)
  redis.call('HDEL', counts, gone)
end

-- The permits that those before a ticket wait for.
local function ahead_of(waiting)
  local rank = redis.call('ZRANK', queue, waiting)
  local ahead = rank
  local several = redis.call('HGETALL', counts)
  for index = 1, #several, 2 do
    local other = redis.call('ZRANK', queue, several[index])
    if other and other < rank then
      ahead = ahead + several[index + 1] - 1
    end
  end
  return ahead
end

-- Return 0 if the ticket's permits are given, which ends it; else the seconds until that is expected. Those before it
-- keep theirs, whether they are awake or dead, so nobody waits for anybody to come.
local function claim()
  local ahead = ahead_of(ticket)
  local needed = math.min(count + MARGIN, s.burst)
  local paused = math.max((s.paused or 0) - now, 0)
  if paused == 0 and s.tokens >= ahead + needed then
    s.tokens = s.tokens - count
    drop(ticket)
    return 0
  end
  local rate = math.min(s.rate + growth() * paused, s.full)
  local left = math.max(paused + seconds_for(ahead + needed - after_pause(s.tokens, paused), rate), 0.001)
  -- Its caller comes back by then, as long as it lives.
  local pause = math.min(left, math.max(left / 2, CHECK_SECONDS), LONGEST_CHECK)
  redis.call('ZADD', leases, string.format('%.6f', now + pause + GRACE), ticket)
  return left
end

local function enqueue()
  redis.call('ZADD', queue, string.format('%.0f', place), ticket)
  if count > 1 then
    redis.call('HSET', counts, ticket, count)
  end
end

local function throttled()
  if s.guess ~= 1 and now - (s.stepped or 0) >= 1 / s.rate then
    s.rate = math.max(s.rate * STEP, math.max(s.full * MIN_SHARE, math.min(s.full, SLOWEST)))
    s.stepped = now
  end
  s.guess = 0
  s.tokens = math.min(s.tokens, 0)
  if value and value > 0 then
    local bound = math.min(math.max(s.burst / s.full, MIN_BOUND), MAX_PAUSE)
    s.paused = math.max(s.paused or 0, now + math.min(value, bound))
  end
end

local is_new = not s.filled
if is_new then
  s.guess = 1
else
  follow_clock()
  refill()
end
if action == 'learn' then
  s.learned = value
end
apply_limit()
if is_new then
  s.tokens, s.filled = s.burst, now
  if action == 'claim' then
    -- There was a queue, so the state is lost, and nobody knows what was used meanwhile.
    s.tokens, s.guess = 0, 0
  elseif idle then
    s.tokens, s.guess = math.min(idle * s.full, s.burst), 0
  end
end
-- Several callers may have used them at the same time, so nobody waits for longer than with an empty bucket.
s.tokens = math.max(s.tokens - used, math.min(s.tokens, 0))
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', string.format('%.6f', now))) do
  if dead ~= ticket then
    drop(dead)
  end
end

local left, taken = 0, 0
if action == 'join' then
  -- A caller that got no reply asks again with the same ticket.
  local known = redis.call('ZSCORE', queue, ticket)
  if known then
    place = tonumber(known)
  else
    -- Places are times, so that they stay in order even if the state is lost.
    s.last = math.max(math.floor(now * 1e6), (s.last or 0) + 1)
    place = place == -1 and s.last - FIRST or s.last
    enqueue()
  end
  left = claim()
elseif action == 'claim' then
  -- A ticket that counted as dead, or was lost with the state, gets its old place.
  if not redis.call('ZSCORE', queue, ticket) then
    enqueue()
  end
  left = claim()
elseif action == 'leave' then
  drop(ticket)
elseif action == 'take' then
  if redis.call('ZCARD', queue) == 0 and (s.paused or 0) <= now then
    taken = math.max(math.min(count, math.floor(s.tokens - MARGIN)), 0)
    s.tokens = s.tokens - taken
  end
elseif action == 'throttled' then
  throttled()
end

local FORMATS = {rate = '%.12g', full = '%.12g', learned = '%.12g', set_rate = '%.12g', last = '%.0f'}
local stored = {}
for _, name in ipairs(NAMES) do
  stored[#stored + 1] = name
  stored[#stored + 1] = s[name] and string.format(FORMATS[name] or '%.6f', s[name]) or ''
end
redis.call('HSET', state, unpack(stored))
local last = redis.call('ZREVRANGE', leases, 0, 0, 'WITHSCORES')
local seconds = math.ceil(math.max(TTL, (tonumber(last[2] or '') or 0) - now + TTL))
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, seconds)
end
return {
  string.format('%.6f', left), string.format('%.0f', place or 0), string.format('%.12g', s.rate),
  string.format('%.12g', s.full), string.format('%.0f', s.burst), redis.call('ZCARD', queue), taken,
}
